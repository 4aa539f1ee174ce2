// Command nodetail is a plugin one of whose errors comes without an ErrorDetail.
package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/example/backend"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

type server struct{ backend.Backend }

// Interrupt of an unknown action has the right code, and nothing that says more.
func (s *server) Interrupt(ctx context.Context, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	answer, err := s.Backend.Interrupt(ctx, req)
	if rterr.Is(err, rterr.NotFound) {
		return nil, status.Error(codes.NotFound, "no such action")
	}
	return answer, err
}

func main() {
	broken.Main("nodetail", func() backendv1.BackendServiceServer { return &server{} })
}
