package api

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/host/door/forward"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// files serves FileService.
type files struct {
	m *runtime.Manager
}

var _ runtimev1connect.FileServiceHandler = (*files)(nil)

func (s *files) StatFile(ctx context.Context, req *connect.Request[runtimev1.StatFileRequest]) (*connect.Response[runtimev1.StatFileResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	got, err := f.StatFile(ctx, &agentv1.StatFileRequest{Path: req.Msg.GetPath()})
	return answer(&runtimev1.StatFileResponse{Info: got.GetInfo()}, err)
}

func (s *files) ListFiles(ctx context.Context, req *connect.Request[runtimev1.ListFilesRequest]) (*connect.Response[runtimev1.ListFilesResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	got, err := f.ListFiles(ctx, &agentv1.ListFilesRequest{Path: req.Msg.GetPath()})
	return answer(&runtimev1.ListFilesResponse{Files: got.GetFiles(), Truncated: got.GetTruncated()}, err)
}

func (s *files) MakeDir(ctx context.Context, req *connect.Request[runtimev1.MakeDirRequest]) (*connect.Response[runtimev1.MakeDirResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	_, err = f.MakeDir(ctx, &agentv1.MakeDirRequest{Path: req.Msg.GetPath()})
	return answer(&runtimev1.MakeDirResponse{}, err)
}

func (s *files) RemoveFile(ctx context.Context, req *connect.Request[runtimev1.RemoveFileRequest]) (*connect.Response[runtimev1.RemoveFileResponse], error) {
	f, err := s.m.Files(ctx, req.Msg.GetRuntimeId())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	_, err = f.RemoveFile(ctx, &agentv1.RemoveFileRequest{Path: req.Msg.GetPath(), Recursive: req.Msg.GetRecursive()})
	return answer(&runtimev1.RemoveFileResponse{}, err)
}

// bodies passes the large side of files on to the agent: GET, PUT and HEAD /v1/runtimes/ID/files.
func bodies(m *runtime.Manager) http.Handler {
	to := &forward.Forwarder{Fail: rthttp.Write}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, done, err := m.Transfer(r.Context(), r.PathValue("id"))
		if err != nil {
			rthttp.Write(w, err)
			return
		}
		defer done()
		to.Forward(w, r, f, agent.FilesPath)
	})
}

// Sandboxes is the handler of the sandbox listener: what runtimes serve, below /RUNTIME_ID/ports/N/, guarded by each one's
// session key. It shares no origin with the API.
func Sandboxes(m *runtime.Manager) http.Handler {
	mux, to := http.NewServeMux(), &forward.Forwarder{Fail: rthttp.Write}
	mux.HandleFunc("/{id}/ports/{port}/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		f, err := m.Sandbox(r.Context(), r.PathValue("id"), r.Header.Get(runtime.SessionKeyHeader))
		if err != nil {
			rthttp.Write(w, err)
			return
		}
		to.Forward(w, r, f, strings.TrimPrefix(r.URL.EscapedPath(), "/"+r.PathValue("id")))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		rthttp.Write(w, rterr.New(rterr.NotFound, "", "nothing is served at %s", r.URL.Path))
	})
	return mux
}
