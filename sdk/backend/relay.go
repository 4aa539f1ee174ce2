package backend

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Actor runs actions: what Execute needs of an agent's client.
type Actor interface {
	// Execute and Attach block until the stream is open; it ends with ctx. The errors are *rterr.Error.
	Execute(ctx context.Context, req *agentv1.ExecuteRequest) (agent.Stream, error)
	Attach(ctx context.Context, req *agentv1.AttachRequest) (agent.Stream, error)
}

// Interrupter stops actions: what Interrupt needs of an agent's client.
type Interrupter interface {
	Interrupt(ctx context.Context, req *agentv1.InterruptRequest) (*agentv1.InterruptResponse, error)
}

// Execute is the Execute of backend.v1 for a sandbox whose agent the plugin can reach. It blocks until the observation was sent,
// or ctx ends; the action goes on when the stream is cut.
func Execute(ctx context.Context, to Actor, req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	const op = "execute through the plugin"
	if req.GetAction().GetId() == "" && req.GetAttachOnly() {
		return rterr.Invalid(op, "action.id", "attaching needs the id of an action")
	}
	if req.GetAction() == nil {
		return rterr.Invalid(op, "action", "is missing")
	}
	stream, err := open(ctx, to, req)
	if err != nil {
		return rterr.Wrap(rterr.SandboxUnreachable, op, err)
	}
	// Recv may block on a silent agent: the end of the call must end it.
	release := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer release()
	defer stream.Close()
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return cut(ctx, op, err)
		}
		if err := out.Send(event); err != nil {
			return cut(ctx, op, err)
		}
	}
}

func open(ctx context.Context, to Actor, req *backendv1.ExecuteRequest) (agent.Stream, error) {
	if req.GetAttachOnly() {
		return to.Attach(ctx, &agentv1.AttachRequest{
			ActionId: req.GetAction().GetId(), Output: req.GetOutput(), From: req.GetFrom(),
		})
	}
	return to.Execute(ctx, &agentv1.ExecuteRequest{Action: req.GetAction(), Output: req.GetOutput(), From: req.GetFrom()})
}

// cut names the caller's own end of the call before what it led to.
func cut(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return rterr.Wrap(rterr.Cancelled, op, context.Cause(ctx))
	}
	return rterr.Wrap(rterr.SandboxUnreachable, op, err)
}

// Interrupt is the Interrupt of backend.v1 for a sandbox whose agent the plugin can reach.
func Interrupt(ctx context.Context, to Interrupter, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	answer, err := to.Interrupt(ctx, &agentv1.InterruptRequest{ActionId: req.GetActionId(), Level: req.GetLevel()})
	if err != nil {
		return nil, rterr.Wrap(rterr.SandboxUnreachable, "interrupt through the plugin", err)
	}
	return &backendv1.InterruptResponse{Signalled: answer.GetSignalled()}, nil
}
