package server

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// pulse sends the events of one stream, each flushed as it comes, and a heartbeat whenever it was quiet for long. It needs no
// goroutine while nothing happens.
type pulse struct {
	mu     sync.Mutex
	send   func(*agentv1.ActionEvent) error
	every  time.Duration
	timer  *time.Timer
	closed bool
}

func newPulse(every time.Duration, send func(*agentv1.ActionEvent) error) *pulse {
	p := &pulse{send: send, every: every}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(every, p.beat)
	return p
}

// Send passes an event on. It blocks while the reader is slow.
func (p *pulse) Send(ev *agentv1.ActionEvent) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return context.Canceled
	}
	err := p.send(ev)
	p.timer.Reset(p.every)
	return err
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	// A reader that is gone is noticed by the request's context, so the error says nothing new.
	_ = p.send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	p.timer.Reset(p.every)
}

// stop ends the heartbeats; no send is under way or begins once it has returned.
func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.timer.Stop()
}

// Execute implements agent.v1 Execute.
func (s *service) Execute(ctx context.Context, req *connect.Request[agentv1.ExecuteRequest], stream *connect.ServerStream[agentv1.ActionEvent]) error {
	if err := s.checkNew(req.Msg.GetAction().GetId()); err != nil {
		return err
	}
	p := newPulse(heartbeatEvery, stream.Send)
	defer p.stop()
	return s.cfg.Engine.Execute(ctx, req.Msg, p.Send)
}

// Attach implements agent.v1 Attach.
func (s *service) Attach(ctx context.Context, req *connect.Request[agentv1.AttachRequest], stream *connect.ServerStream[agentv1.ActionEvent]) error {
	p := newPulse(heartbeatEvery, stream.Send)
	defer p.stop()
	return s.cfg.Engine.Attach(ctx, req.Msg, p.Send)
}
