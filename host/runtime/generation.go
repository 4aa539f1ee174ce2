package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/openhands-rt/openhands-rt/host/recovery"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// generation is one sandbox that a runtime has, while the host holds it.
type generation struct {
	number uint64
	// ctx ends, with the cause, when the sandbox is gone or given up for good.
	ctx context.Context
	end context.CancelCauseFunc

	// guarded: its phase is watched and its lease renewed.
	guarded sync.Once

	mu   sync.Mutex
	exec Executor
	// lost: the sandbox does not answer; up is closed when it is found again.
	lost  bool
	up    chan struct{}
	onCut func(error)
}

func newGeneration(number uint64, exec Executor, onCut func(error)) *generation {
	ctx, end := context.WithCancelCause(context.Background())
	return &generation{number: number, ctx: ctx, end: end, exec: exec, onCut: onCut}
}

// executor blocks while the sandbox is lost, until it is found again, the generation ends, or ctx does.
func (g *generation) executor(ctx context.Context) (Executor, error) {
	for {
		if g.ctx.Err() != nil {
			return nil, context.Cause(g.ctx)
		}
		g.mu.Lock()
		exec, lost, up := g.exec, g.lost, g.up
		g.mu.Unlock()
		if !lost {
			return exec, nil
		}
		select {
		case <-up: // found again, perhaps elsewhere
		case <-g.ctx.Done():
		case <-ctx.Done():
			return nil, rterr.Wrap(rterr.Cancelled, "wait for the sandbox", context.Cause(ctx))
		}
	}
}

// disconnect says that the sandbox cannot be reached; executor blocks from now on.
func (g *generation) disconnect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.lost {
		g.lost, g.up = true, make(chan struct{})
	}
}

// reconnect says that the sandbox was found again at exec (nil: where it was).
func (g *generation) reconnect(exec Executor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if exec != nil {
		if g.exec != nil {
			defer g.exec.Close() //nolint:errcheck // idle connections of an address that is no longer used
		}
		g.exec = exec
	}
	if g.lost {
		g.lost = false
		close(g.up)
	}
}

// close ends the generation with its cause and releases its connections.
func (g *generation) close(cause error) {
	g.end(cause)
	g.mu.Lock()
	exec := g.exec
	g.mu.Unlock()
	if exec != nil {
		_ = exec.Close() // idle connections to a sandbox that is gone
	}
}

// resuming is a reader of one action that goes on after every cut, from the offset that it had reached.
type resuming struct {
	ctx     context.Context
	gen     *generation
	recover Recoverer
	op      policy.Op
	id      string
	mode    agentv1.OutputMode
	cur     *cursor
	up      agent.Stream
	// cuts in a row without an event between them.
	cuts     int
	recorded bool
}

// open attaches; it blocks until the first event is there.
func (s *resuming) open(ctx context.Context) error {
	exec, err := s.gen.executor(ctx)
	if err != nil {
		return err
	}
	// The stream outlives the attempt that opens it.
	s.up, err = exec.Attach(s.ctx, &agentv1.AttachRequest{ActionId: s.id, Output: s.mode, From: s.cur.from()})
	return err
}

// Recv returns the next event; only one record, also over several cuts.
func (s *resuming) Recv() (*agentv1.ActionEvent, error) {
	for {
		ev, err := s.recvOnce()
		if err == nil {
			s.cuts = 0
			if ev.GetRecord() != nil && s.recorded {
				continue
			}
			s.recorded = s.recorded || ev.GetRecord() != nil
			s.cur.advance(ev)
			return ev, nil
		}
		if err := s.afterCut(err); err != nil {
			return nil, err
		}
	}
}

func (s *resuming) recvOnce() (*agentv1.ActionEvent, error) {
	if s.up == nil {
		if err := s.recover.Do(s.ctx, s.op, s.open); err != nil {
			return nil, err
		}
	}
	return s.up.Recv()
}

// afterCut returns the error if it is final. After a cut it waits a little longer each time; when recovery has given up, the
// runtime decides what becomes of the sandbox, and the reader waits for that.
func (s *resuming) afterCut(err error) error {
	s.drop()
	if s.gen.ctx.Err() != nil {
		return context.Cause(s.gen.ctx)
	}
	if s.ctx.Err() != nil {
		return rterr.Wrap(rterr.Cancelled, "", context.Cause(s.ctx))
	}
	if !cutting(err) {
		return err
	}
	if _, givenUp := recovery.DecisionOf(err); givenUp {
		s.gen.onCut(err)
	}
	sleep(s.ctx, min(time.Duration(s.cuts)*cutPause, maxCutPause))
	s.cuts++
	return nil
}

// cutPause is the wait after the second cut in a row, growing by itself up to maxCutPause. The first is free.
const (
	cutPause    = 20 * time.Millisecond
	maxCutPause = time.Second
)

// cutting tells a cut stream from an answer.
func cutting(err error) bool {
	return rterr.Is(err, rterr.Network, rterr.SandboxUnreachable, rterr.PluginUnavailable, rterr.Unavailable, rterr.Timeout)
}

func (s *resuming) drop() {
	if s.up != nil {
		_ = s.up.Close()
		s.up = nil
	}
}

// Close ends the reader.
func (s *resuming) Close() error { s.drop(); return nil }

// errLeaving ends a generation for a host that stops: its actions go on, and its journal stays as it is.
var errLeaving = rterr.New(rterr.Unavailable, "", "the host is stopping; attach again by the action's id")

// leave ends the generation for this host without a word about the sandbox.
func (g *generation) leave() { g.close(errLeaving) }
