// Command leaky is a plugin whose Close reports success and leaves the sandbox running.
package main

import (
	"context"

	"google.golang.org/protobuf/proto"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken/proxy"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

type backend struct{ proxy.Backend }

// Close lets go of what it was asked to delete.
func (b *backend) Close(ctx context.Context, req *backendv1.CloseRequest) (*backendv1.CloseResponse, error) {
	if req.GetMode() == backendv1.CloseMode_CLOSE_MODE_DELETE {
		req = proto.CloneOf(req)
		req.Mode = backendv1.CloseMode_CLOSE_MODE_KEEP
	}
	return b.Backend.Close(ctx, req)
}

func main() {
	serve.Main(serve.Options{Name: "leaky", Version: "1.0.0", New: func(serve.Env) (backendv1.BackendServiceServer, error) {
		return &backend{}, nil
	}})
}
