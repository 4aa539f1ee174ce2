package conformance

import (
	"context"

	"google.golang.org/grpc"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
)

// order is what is asked of an action's stream.
type order struct {
	action *agentv1.Action
	mode   agentv1.OutputMode
	from   []*agentv1.OutputCursor
	attach bool
}

// route is one way to a sandbox's actions. The errors are *rterr.Error.
type route interface {
	name() string
	open(ctx context.Context, sb *sandbox, o order) (agent.Stream, error)
	interrupt(ctx context.Context, sb *sandbox, id string, level agentv1.InterruptLevel) (signalled bool, err error)
}

// pluginRoute goes through the backend's own Execute.
type pluginRoute struct{}

func (pluginRoute) name() string { return "plugin" }

func (pluginRoute) open(ctx context.Context, sb *sandbox, o order) (agent.Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := sb.Execute(ctx, &backendv1.ExecuteRequest{
		Handle: sb.handle, Action: o.action, Output: o.mode, From: o.from,
		AttachOnly: o.attach, AgentCredential: sb.credential(),
	})
	if err != nil {
		cancel()
		return nil, wire(err)
	}
	return &grpcStream{stream: stream, cancel: cancel}, nil
}

func (pluginRoute) interrupt(ctx context.Context, sb *sandbox, id string, level agentv1.InterruptLevel) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := sb.Interrupt(ctx, &backendv1.InterruptRequest{
		Handle: sb.handle, ActionId: id, Level: level, AgentCredential: sb.credential(),
	})
	return answer.GetSignalled(), wire(err)
}

// grpcStream is a backend.v1 stream as an agent.Stream.
type grpcStream struct {
	stream grpc.ServerStreamingClient[agentv1.ActionEvent]
	cancel context.CancelFunc
}

func (s *grpcStream) Recv() (*agentv1.ActionEvent, error) {
	event, err := s.stream.Recv()
	return event, wireButEOF(err)
}

func (s *grpcStream) Close() error {
	s.cancel()
	return nil
}

// agentRoute goes straight to the agent at the address that Endpoint names.
type agentRoute struct{}

func (agentRoute) name() string { return "agent" }

func (agentRoute) open(ctx context.Context, sb *sandbox, o order) (agent.Stream, error) {
	a, err := sb.agent(ctx)
	if err != nil {
		return nil, err
	}
	if o.attach {
		return a.Attach(ctx, &agentv1.AttachRequest{ActionId: o.action.GetId(), Output: o.mode, From: o.from})
	}
	return a.Execute(ctx, &agentv1.ExecuteRequest{Action: o.action, Output: o.mode, From: o.from})
}

func (agentRoute) interrupt(ctx context.Context, sb *sandbox, id string, level agentv1.InterruptLevel) (bool, error) {
	a, err := sb.agent(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := a.Interrupt(ctx, &agentv1.InterruptRequest{ActionId: id, Level: level})
	return answer.GetSignalled(), err
}
