// Package api is the door of the host's own protocol, runtime/v1: Connect, gRPC, gRPC-Web and JSON on one listener, and plain
// HTTP for files. It translates and calls host/runtime; it owns no rule.
package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// runtimes serves RuntimeService.
type runtimes struct {
	m *runtime.Manager
}

var _ runtimev1connect.RuntimeServiceHandler = (*runtimes)(nil)

// answer makes a Connect answer of a value and an error of ours.
func answer[T any](msg *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	return connect.NewResponse(msg), nil
}

func (s *runtimes) CreateRuntime(ctx context.Context, req *connect.Request[runtimev1.CreateRuntimeRequest]) (*connect.Response[runtimev1.CreateRuntimeResponse], error) {
	v, attached, err := s.m.Create(ctx, req.Msg)
	return answer(&runtimev1.CreateRuntimeResponse{Runtime: v, Attached: attached}, err)
}

func (s *runtimes) GetRuntime(ctx context.Context, req *connect.Request[runtimev1.GetRuntimeRequest]) (*connect.Response[runtimev1.GetRuntimeResponse], error) {
	ref := req.Msg.GetRuntimeId()
	if ref == "" {
		ref = req.Msg.GetSid()
	}
	v, err := s.m.Get(ctx, ref)
	return answer(&runtimev1.GetRuntimeResponse{Runtime: v}, err)
}

func (s *runtimes) ListRuntimes(ctx context.Context, req *connect.Request[runtimev1.ListRuntimesRequest]) (*connect.Response[runtimev1.ListRuntimesResponse], error) {
	list, err := s.m.List(ctx, req.Msg.GetAll())
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	list, next, err := page(list, req.Msg.GetPageSize(), req.Msg.GetPageToken())
	return answer(&runtimev1.ListRuntimesResponse{Runtimes: list, NextPageToken: next}, err)
}

func (s *runtimes) WatchRuntime(ctx context.Context, req *connect.Request[runtimev1.WatchRuntimeRequest], out *connect.ServerStream[runtimev1.WatchRuntimeResponse]) error {
	return rthttp.ToConnect(s.m.Watch(ctx, req.Msg.GetRuntimeId(), out.Send))
}

func (s *runtimes) PauseRuntime(ctx context.Context, req *connect.Request[runtimev1.PauseRuntimeRequest]) (*connect.Response[runtimev1.PauseRuntimeResponse], error) {
	v, err := s.m.Pause(ctx, req.Msg.GetRuntimeId())
	return answer(&runtimev1.PauseRuntimeResponse{Runtime: v}, err)
}

func (s *runtimes) ResumeRuntime(ctx context.Context, req *connect.Request[runtimev1.ResumeRuntimeRequest]) (*connect.Response[runtimev1.ResumeRuntimeResponse], error) {
	v, err := s.m.Resume(ctx, req.Msg.GetRuntimeId())
	return answer(&runtimev1.ResumeRuntimeResponse{Runtime: v}, err)
}

func (s *runtimes) StopRuntime(ctx context.Context, req *connect.Request[runtimev1.StopRuntimeRequest]) (*connect.Response[runtimev1.StopRuntimeResponse], error) {
	v, err := s.m.Stop(ctx, req.Msg.GetRuntimeId(), req.Msg.GetKeep())
	return answer(&runtimev1.StopRuntimeResponse{Runtime: v}, err)
}

func (s *runtimes) GetEndpoint(ctx context.Context, req *connect.Request[runtimev1.GetEndpointRequest]) (*connect.Response[runtimev1.GetEndpointResponse], error) {
	endpoint, err := s.m.Endpoint(ctx, req.Msg.GetRuntimeId(), req.Msg.GetPort())
	return answer(endpoint, err)
}

func (s *runtimes) GetVSCodeURL(ctx context.Context, req *connect.Request[runtimev1.GetVSCodeURLRequest]) (*connect.Response[runtimev1.GetVSCodeURLResponse], error) {
	url, err := s.m.VSCodeURL(ctx, req.Msg.GetRuntimeId())
	return answer(&runtimev1.GetVSCodeURLResponse{Url: url}, err)
}

func (s *runtimes) ListBackends(ctx context.Context, _ *connect.Request[runtimev1.ListBackendsRequest]) (*connect.Response[runtimev1.ListBackendsResponse], error) {
	list, err := s.m.Backends(ctx)
	return answer(&runtimev1.ListBackendsResponse{Backends: list}, err)
}

func (s *runtimes) ListEvents(ctx context.Context, req *connect.Request[runtimev1.ListEventsRequest]) (*connect.Response[runtimev1.ListEventsResponse], error) {
	list, err := s.m.Events(ctx, req.Msg.GetRuntimeId(), req.Msg.GetAfterSequence(), int(req.Msg.GetLimit()))
	return answer(&runtimev1.ListEventsResponse{Events: list}, err)
}

func (s *runtimes) WatchEvents(ctx context.Context, req *connect.Request[runtimev1.WatchEventsRequest], out *connect.ServerStream[runtimev1.WatchEventsResponse]) error {
	send := func(ev *runtimev1.RuntimeEvent) error { return out.Send(&runtimev1.WatchEventsResponse{Event: ev}) }
	return rthttp.ToConnect(s.m.WatchEvents(ctx, req.Msg.GetRuntimeId(), req.Msg.GetAfterSequence(), req.Msg.GetNewOnly(), send))
}

func (s *runtimes) ListPorts(ctx context.Context, req *connect.Request[runtimev1.ListPortsRequest]) (*connect.Response[runtimev1.ListPortsResponse], error) {
	ports, err := s.m.Ports(ctx, req.Msg.GetRuntimeId())
	return answer(&runtimev1.ListPortsResponse{Ports: ports}, err)
}
