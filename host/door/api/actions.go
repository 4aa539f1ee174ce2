package api

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// actions serves ActionService.
type actions struct {
	m *runtime.Manager
}

var _ runtimev1connect.ActionServiceHandler = (*actions)(nil)

// Bounds of RunAction.
const (
	defaultRunOutput = 1 << 20
	maxRunOutput     = 4 << 20
	maxRunStdin      = 1 << 20
)

func (s *actions) RunAction(ctx context.Context, req *connect.Request[runtimev1.RunActionRequest]) (*connect.Response[runtimev1.RunActionResponse], error) {
	msg := req.Msg
	if len(msg.GetStdin()) > maxRunStdin {
		return nil, rthttp.ToConnect(rterr.Invalid("run action", "stdin", "has more than %d bytes: use StartAction and SendInput", maxRunStdin))
	}
	limit := int(msg.GetMaxOutputBytes())
	switch {
	case limit == 0:
		limit = defaultRunOutput
	case limit > maxRunOutput:
		return nil, rthttp.ToConnect(rterr.Invalid("run action", "max_output_bytes", "is at most %d", maxRunOutput))
	}
	stream, err := s.m.Execute(ctx, msg.GetRuntimeId(), &agentv1.ExecuteRequest{
		Action: msg.GetAction(), Output: agentv1.OutputMode_OUTPUT_MODE_STREAM,
	})
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	defer stream.Close() //nolint:errcheck // closing a read side
	out, err := s.collect(ctx, msg, stream, limit)
	return answer(out, err)
}

// collect reads a stream to its end, and sends the stdin as soon as the action is there to take it.
func (s *actions) collect(ctx context.Context, req *runtimev1.RunActionRequest, stream agent.Stream, limit int) (*runtimev1.RunActionResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var out collector
	out.limit = limit
	for {
		ev, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		switch {
		case ev.GetRecord() != nil && len(req.GetStdin()) > 0:
			// An action that ends without reading its stdin is no error.
			go func() {
				_, _ = s.m.Input(ctx, req.GetRuntimeId(), &agentv1.InputRequest{
					ActionId: ev.GetRecord().GetId(), Data: req.GetStdin(), Close: true,
				})
			}()
		case ev.GetOutput() != nil:
			out.add(ev.GetOutput().GetChannel(), ev.GetOutput().GetData())
		case ev.GetGap() != nil:
			out.skip(ev.GetGap().GetChannel(), ev.GetGap().GetLength())
		case ev.GetObservation() != nil:
			return &runtimev1.RunActionResponse{Observation: ev.GetObservation(), Output: out.result()}, nil
		}
	}
}

func (s *actions) StartAction(ctx context.Context, req *connect.Request[runtimev1.StartActionRequest]) (*connect.Response[runtimev1.StartActionResponse], error) {
	stream, err := s.m.Execute(ctx, req.Msg.GetRuntimeId(), &agentv1.ExecuteRequest{
		Action: req.Msg.GetAction(), Output: agentv1.OutputMode_OUTPUT_MODE_NONE,
	})
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	defer stream.Close() //nolint:errcheck // closing a read side
	if _, err := stream.Recv(); err != nil {
		return nil, rthttp.ToConnect(err)
	}
	info, err := s.m.Action(ctx, req.Msg.GetRuntimeId(), req.Msg.GetAction().GetId())
	return answer(&runtimev1.StartActionResponse{Action: info}, err)
}

func (s *actions) ExecuteAction(ctx context.Context, req *connect.Request[runtimev1.ExecuteActionRequest], out *connect.ServerStream[agentv1.ActionEvent]) error {
	stream, err := s.m.Execute(ctx, req.Msg.GetRuntimeId(), &agentv1.ExecuteRequest{
		Action: req.Msg.GetAction(), Output: req.Msg.GetOutput(), From: req.Msg.GetFrom(),
	})
	return relay(stream, err, out)
}

func (s *actions) AttachAction(ctx context.Context, req *connect.Request[runtimev1.AttachActionRequest], out *connect.ServerStream[agentv1.ActionEvent]) error {
	stream, err := s.m.Attach(ctx, req.Msg.GetRuntimeId(), req.Msg.GetActionId(), req.Msg.GetOutput(), req.Msg.GetFrom())
	return relay(stream, err, out)
}

// relay sends every event of a stream; each Send goes out at once.
func relay(stream agent.Stream, err error, out *connect.ServerStream[agentv1.ActionEvent]) error {
	if err != nil {
		return rthttp.ToConnect(err)
	}
	defer stream.Close() //nolint:errcheck // closing a read side
	for {
		ev, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return rthttp.ToConnect(err)
		}
		if err := out.Send(ev); err != nil {
			return err
		}
	}
}

func (s *actions) GetAction(ctx context.Context, req *connect.Request[runtimev1.GetActionRequest]) (*connect.Response[runtimev1.GetActionResponse], error) {
	info, err := s.m.Action(ctx, req.Msg.GetRuntimeId(), req.Msg.GetActionId())
	return answer(&runtimev1.GetActionResponse{Action: info}, err)
}

func (s *actions) ListActions(ctx context.Context, req *connect.Request[runtimev1.ListActionsRequest]) (*connect.Response[runtimev1.ListActionsResponse], error) {
	list, err := s.m.Actions(ctx, req.Msg.GetRuntimeId(), req.Msg.GetActive(), int(req.Msg.GetLimit()))
	return answer(&runtimev1.ListActionsResponse{Actions: list}, err)
}

func (s *actions) InterruptAction(ctx context.Context, req *connect.Request[runtimev1.InterruptActionRequest]) (*connect.Response[runtimev1.InterruptActionResponse], error) {
	ok, err := s.m.Interrupt(ctx, req.Msg.GetRuntimeId(), req.Msg.GetActionId(), req.Msg.GetLevel())
	return answer(&runtimev1.InterruptActionResponse{Signalled: ok}, err)
}

func (s *actions) SendInput(ctx context.Context, req *connect.Request[runtimev1.SendInputRequest]) (*connect.Response[runtimev1.SendInputResponse], error) {
	next, err := s.m.Input(ctx, req.Msg.GetRuntimeId(), &agentv1.InputRequest{
		ActionId: req.Msg.GetActionId(), Offset: req.Msg.GetOffset(), Data: req.Msg.GetData(), Close: req.Msg.GetClose(),
	})
	return answer(&runtimev1.SendInputResponse{NextOffset: next}, err)
}

func (s *actions) ResizeTerminal(ctx context.Context, req *connect.Request[runtimev1.ResizeTerminalRequest]) (*connect.Response[runtimev1.ResizeTerminalResponse], error) {
	err := s.m.Resize(ctx, req.Msg.GetRuntimeId(), &agentv1.ResizeRequest{
		ActionId: req.Msg.GetActionId(), Rows: req.Msg.GetRows(), Cols: req.Msg.GetCols(), Sequence: req.Msg.GetSequence(),
	})
	return answer(&runtimev1.ResizeTerminalResponse{}, err)
}
