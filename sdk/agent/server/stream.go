package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// pulse sends the events of one stream, and a heartbeat whenever it was quiet for long. It needs no goroutine while nothing
// happens. Each event goes out as it comes, with two exceptions that spare the reader a wake-up: what comes in the first moment
// waits for its end, so that a short action is one piece, and the observation waits for the end of the stream, which follows it.
type pulse struct {
	mu     sync.Mutex
	out    *flusher
	send   func(*agentv1.ActionEvent) error
	every  time.Duration
	timer  *time.Timer
	closed bool
}

func newPulse(out *flusher, every time.Duration, send func(*agentv1.ActionEvent) error) *pulse {
	p := &pulse{out: out, every: every, send: send}
	p.mu.Lock()
	defer p.mu.Unlock()
	out.held = true
	p.timer = time.AfterFunc(min(firstMoment, every), p.beat)
	return p
}

// Send passes an event on. It blocks while the reader is slow.
func (p *pulse) Send(ev *agentv1.ActionEvent) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return context.Canceled
	}
	if ev.GetObservation() != nil {
		p.out.held = true
	}
	err := p.send(ev)
	if !p.out.held {
		p.timer.Reset(p.every)
	}
	return err
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.out.held {
		p.out.release()
	} else {
		// A reader that is gone is noticed by the request's context, so the error says nothing new.
		_ = p.send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	}
	p.timer.Reset(p.every)
}

// stop ends the heartbeats; no send is under way or begins once it has returned.
func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.timer.Stop()
}

// flusher is a response whose flushes can be held back. Not for concurrent use.
type flusher struct {
	http.ResponseWriter
	held, flushed bool
}

// Flush implements http.Flusher.
func (f *flusher) Flush() {
	if f.held {
		f.flushed = true
		return
	}
	if out, ok := f.ResponseWriter.(http.Flusher); ok {
		out.Flush()
	}
}

// release makes up for what was held back, and holds nothing back any more.
func (f *flusher) release() {
	f.held = false
	if f.flushed {
		f.flushed = false
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (f *flusher) Unwrap() http.ResponseWriter { return f.ResponseWriter }

type flusherKey struct{}

// flushing lets a handler of next hold back flushes.
func flushing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := &flusher{ResponseWriter: w}
		next.ServeHTTP(f, r.WithContext(context.WithValue(r.Context(), flusherKey{}, f)))
	})
}

// flusherOf returns the flusher of a request; one of no effect where there is none.
func flusherOf(ctx context.Context) *flusher {
	if f, ok := ctx.Value(flusherKey{}).(*flusher); ok {
		return f
	}
	return &flusher{}
}

// Execute implements agent.v1 Execute.
func (s *service) Execute(ctx context.Context, req *connect.Request[agentv1.ExecuteRequest], stream *connect.ServerStream[agentv1.ActionEvent]) error {
	if err := s.checkNew(req.Msg.GetAction().GetId()); err != nil {
		return err
	}
	p := newPulse(flusherOf(ctx), heartbeatEvery, stream.Send)
	defer p.stop()
	return s.cfg.Engine.Execute(ctx, req.Msg, p.Send)
}

// Attach implements agent.v1 Attach.
func (s *service) Attach(ctx context.Context, req *connect.Request[agentv1.AttachRequest], stream *connect.ServerStream[agentv1.ActionEvent]) error {
	p := newPulse(flusherOf(ctx), heartbeatEvery, stream.Send)
	defer p.stop()
	return s.cfg.Engine.Attach(ctx, req.Msg, p.Send)
}
