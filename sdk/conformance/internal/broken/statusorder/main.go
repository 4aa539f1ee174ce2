// Command statusorder is a plugin that breaks the order of statuses: a new sandbox is READY twice.
package main

import (
	"google.golang.org/grpc"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/example/backend"
)

type server struct{ backend.Backend }

// Connect says READY twice more before it says Connected.
func (s *server) Connect(req *backendv1.ConnectRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	if req.GetHandle() == nil {
		out = &doubled{out}
	}
	return s.Backend.Connect(req, out)
}

type doubled struct {
	grpc.ServerStreamingServer[backendv1.ConnectResponse]
}

func (d *doubled) Send(event *backendv1.ConnectResponse) error {
	if event.GetConnected() != nil {
		ready := &backendv1.StatusUpdate{Status: backendv1.RuntimeStatus_RUNTIME_STATUS_READY}
		for range 2 {
			if err := d.ServerStreamingServer.Send(&backendv1.ConnectResponse{
				Event: &backendv1.ConnectResponse_Status{Status: ready}}); err != nil {
				return err
			}
		}
	}
	return d.ServerStreamingServer.Send(event)
}

func main() {
	broken.Main("statusorder", func() backendv1.BackendServiceServer { return &server{} })
}
