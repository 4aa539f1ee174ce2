package backend

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/testing/protocmp"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The SDK's own client is what these take.
var (
	_ Actor       = (*client.Client)(nil)
	_ Interrupter = (*client.Client)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is an agent whose stream is given.
type script struct {
	events   []*agentv1.ActionEvent
	end      error // after the events; nil blocks until Close
	openErr  error
	closed   chan struct{}
	once     sync.Once
	executed *agentv1.ExecuteRequest
	attached *agentv1.AttachRequest
}

func (s *script) Execute(_ context.Context, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	s.executed = req
	return s.opened()
}

func (s *script) Attach(_ context.Context, req *agentv1.AttachRequest) (agent.Stream, error) {
	s.attached = req
	return s.opened()
}

func (s *script) Interrupt(_ context.Context, req *agentv1.InterruptRequest) (*agentv1.InterruptResponse, error) {
	if s.openErr != nil {
		return nil, s.openErr
	}
	return &agentv1.InterruptResponse{Signalled: req.GetLevel() == agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL}, nil
}

func (s *script) opened() (agent.Stream, error) {
	if s.openErr != nil {
		return nil, s.openErr
	}
	s.closed = make(chan struct{})
	return s, nil
}

func (s *script) Recv() (*agentv1.ActionEvent, error) {
	if len(s.events) > 0 {
		ev := s.events[0]
		s.events = s.events[1:]
		return ev, nil
	}
	if s.end != nil {
		return nil, s.end
	}
	<-s.closed
	return nil, rterr.New(rterr.Network, "", "closed")
}

func (s *script) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// sink collects what is sent.
type sink struct {
	grpc.ServerStreamingServer[agentv1.ActionEvent]
	sent []*agentv1.ActionEvent
	err  error
	then func()
}

func (s *sink) Send(ev *agentv1.ActionEvent) error {
	s.sent = append(s.sent, ev)
	if s.then != nil {
		s.then()
	}
	return s.err
}

func events() []*agentv1.ActionEvent {
	return []*agentv1.ActionEvent{
		{Event: &agentv1.ActionEvent_Record{Record: &agentv1.ActionRecord{Id: "a"}}},
		{Event: &agentv1.ActionEvent_Observation{Observation: &agentv1.Observation{ActionId: "a"}}},
	}
}

func TestExecuteRelaysEverything(t *testing.T) {
	from := []*agentv1.OutputCursor{{Channel: agentv1.Channel_CHANNEL_STDOUT, Offset: 7}}
	for _, attach := range []bool{false, true} {
		to, out := &script{events: events(), end: io.EOF}, &sink{}
		req := &backendv1.ExecuteRequest{
			Action: &agentv1.Action{Id: "a", Kind: "run"}, AttachOnly: attach, From: from, Output: agentv1.OutputMode_OUTPUT_MODE_NONE,
		}
		if err := Execute(t.Context(), to, req, out); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(events(), out.sent, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		if attach && (to.executed != nil || to.attached.GetActionId() != "a" || len(to.attached.GetFrom()) != 1) {
			t.Errorf("attach_only sent %v, %v", to.executed, to.attached)
		}
		if !attach && (to.attached != nil || to.executed.GetAction().GetKind() != "run" || to.executed.GetOutput() != req.GetOutput()) {
			t.Errorf("execute sent %v, %v", to.executed, to.attached)
		}
		<-to.closed // the stream was closed
	}
}

func TestExecuteErrors(t *testing.T) {
	action := &agentv1.Action{Id: "a"}
	for _, c := range []struct {
		name string
		to   *script
		out  *sink
		req  *backendv1.ExecuteRequest
		want rterr.Reason
	}{
		{"no action", &script{}, &sink{}, &backendv1.ExecuteRequest{}, rterr.InvalidArgument},
		{"attach without id", &script{}, &sink{}, &backendv1.ExecuteRequest{AttachOnly: true}, rterr.InvalidArgument},
		{"agent refuses", &script{openErr: rterr.New(rterr.ActionConflict, "", "")}, &sink{}, &backendv1.ExecuteRequest{Action: action}, rterr.ActionConflict},
		{"agent is away", &script{openErr: errors.New("refused")}, &sink{}, &backendv1.ExecuteRequest{Action: action}, rterr.SandboxUnreachable},
		{"cut", &script{end: rterr.New(rterr.Network, "", "cut")}, &sink{}, &backendv1.ExecuteRequest{Action: action}, rterr.Network},
		{"nobody takes it", &script{events: events()}, &sink{err: io.ErrClosedPipe}, &backendv1.ExecuteRequest{Action: action}, rterr.SandboxUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Execute(t.Context(), c.to, c.req, c.out); !rterr.Is(err, c.want) {
				t.Errorf("Execute = %v, want %v", err, c.want)
			}
		})
	}
}

func TestExecuteEndsWithTheCall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	to, out := &script{events: events()[:1]}, &sink{then: cancel}
	err := Execute(ctx, to, &backendv1.ExecuteRequest{Action: &agentv1.Action{Id: "a"}}, out)
	if !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("Execute = %v, want Cancelled", err)
	}
}

func TestInterrupt(t *testing.T) {
	req := &backendv1.InterruptRequest{ActionId: "a", Level: agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL}
	if answer, err := Interrupt(t.Context(), &script{}, req); err != nil || !answer.GetSignalled() {
		t.Errorf("Interrupt = %v, %v", answer, err)
	}
	if _, err := Interrupt(t.Context(), &script{openErr: errors.New("refused")}, req); !rterr.Is(err, rterr.SandboxUnreachable) {
		t.Errorf("Interrupt = %v", err)
	}
}
