// Command leaky is a plugin whose Close reports success and leaves the sandbox running.
package main

import (
	"context"

	"google.golang.org/protobuf/proto"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/example/backend"
)

type server struct{ backend.Backend }

// Close lets go of what it was asked to delete.
func (s *server) Close(ctx context.Context, req *backendv1.CloseRequest) (*backendv1.CloseResponse, error) {
	if req.GetMode() == backendv1.CloseMode_CLOSE_MODE_DELETE {
		req = proto.CloneOf(req)
		req.Mode = backendv1.CloseMode_CLOSE_MODE_KEEP
	}
	return s.Backend.Close(ctx, req)
}

func main() {
	broken.Main("leaky", func() backendv1.BackendServiceServer { return &server{} })
}
