// Command nodetail is a plugin one of whose errors comes without an ErrorDetail.
package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken/proxy"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

type backend struct{ proxy.Backend }

// Interrupt of an unknown action has the right code, and nothing that says more.
func (b *backend) Interrupt(ctx context.Context, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	answer, err := b.Backend.Interrupt(ctx, req)
	if rterr.Is(rtgrpc.FromStatus(err), rterr.NotFound) {
		return nil, status.Error(codes.NotFound, "no such action")
	}
	return answer, err
}

func main() {
	serve.Main(serve.Options{Name: "nodetail", Version: "1.0.0", New: func(serve.Env) (backendv1.BackendServiceServer, error) {
		return &backend{}, nil
	}})
}
