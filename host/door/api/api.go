package api

import (
	"net/http"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
)

// Register puts runtime/v1, its files, health and reflection on mux. Everything but health is behind require;
// no message is larger than maxMessage bytes.
func Register(mux *http.ServeMux, m *runtime.Manager, w Workspaces, require func(http.Handler) http.Handler, maxMessage int, health grpchealth.Checker) {
	opts := connect.WithHandlerOptions(
		connect.WithReadMaxBytes(maxMessage), connect.WithSendMaxBytes(maxMessage),
		connect.WithCompressMinBytes(128<<10), // quicker plain: small answers, and every piece of output
	)
	guarded := func(path string, h http.Handler) { mux.Handle(path, require(h)) }
	guarded(runtimev1connect.NewRuntimeServiceHandler(&runtimes{m}, opts))
	guarded(runtimev1connect.NewActionServiceHandler(&actions{m}, opts))
	guarded(runtimev1connect.NewFileServiceHandler(&files{m}, opts))
	guarded(runtimev1connect.NewWorkspaceServiceHandler(&workspaces{w}, opts))
	guarded("/v1/runtimes/{id}/files", bodies(m))
	reflector := grpcreflect.NewStaticReflector(Services()...)
	guarded(grpcreflect.NewHandlerV1(reflector))
	guarded(grpcreflect.NewHandlerV1Alpha(reflector))
	mux.Handle(grpchealth.NewHandler(health))
}

// Services are the full names of what Register serves.
func Services() []string {
	return []string{
		runtimev1connect.RuntimeServiceName, runtimev1connect.ActionServiceName, runtimev1connect.FileServiceName,
		runtimev1connect.WorkspaceServiceName,
	}
}
