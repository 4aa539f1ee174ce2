// Command orphan is a plugin whose Connect does not notice that it is cancelled: the sandbox is made, and nobody gets it.
package main

import (
	"context"

	"google.golang.org/grpc"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/example/backend"
)

type server struct{ backend.Backend }

// Connect goes on when its caller is gone.
func (s *server) Connect(req *backendv1.ConnectRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	return s.Backend.Connect(req, &deaf{out})
}

type deaf struct {
	grpc.ServerStreamingServer[backendv1.ConnectResponse]
}

// Context is one that never ends.
func (d *deaf) Context() context.Context {
	return context.WithoutCancel(d.ServerStreamingServer.Context())
}

// Send does not mind that nobody listens.
func (d *deaf) Send(event *backendv1.ConnectResponse) error {
	_ = d.ServerStreamingServer.Send(event)
	return nil
}

func main() {
	broken.Main("orphan", func() backendv1.BackendServiceServer { return &server{} })
}
