package runtime

import (
	"container/list"
	"context"
	"sync"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// permit is a semaphore of one runtime: the action semaphore has one holder, the bound of process actions more. First come first
// served, a bounded queue, cancellable waits. A place in the queue is taken before the wait begins, which
// golang.org/x/sync/semaphore cannot do: so the order is that of the requests, not of the goroutines that serve them.
type permit struct {
	mu    sync.Mutex
	free  int
	limit int
	queue list.List // of *ticket
}

func newPermit(holders, queue int) *permit { return &permit{free: holders, limit: queue} }

// ticket is a place at a permit: held at once, or in its queue.
type ticket struct {
	of *permit
	// turn is closed when the permit is held.
	turn chan struct{}
	// place is nil once the ticket has left the queue.
	place    *list.Element
	released bool
}

// enter takes the permit, or the last place of its queue. It does not block; a full queue is LimitExceeded.
func (p *permit) enter() (*ticket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &ticket{of: p, turn: make(chan struct{})}
	switch {
	case p.free > 0:
		p.free--
		close(t.turn)
	case p.queue.Len() >= p.limit:
		return nil, rterr.New(rterr.LimitExceeded, "", "%d actions are waiting for this runtime already", p.limit).
			WithRan(rterr.RanNo).With("queue", "actions")
	default:
		t.place = p.queue.PushBack(t)
	}
	return t, nil
}

// held reports whether the turn has come.
func (t *ticket) held() bool {
	select {
	case <-t.turn:
		return true
	default:
		return false
	}
}

// wait blocks until the turn has come, or ctx ends: then the place is given up, and the error is the context's cause, with ran
// set to no.
func (t *ticket) wait(ctx context.Context) error {
	select {
	case <-t.turn:
		return nil
	case <-ctx.Done():
		t.release()
		e := *rterr.From(context.Cause(ctx))
		return e.WithRan(rterr.RanNo).WithCause(context.Cause(ctx))
	}
}

// release gives the permit to the next in the queue, or gives up the place. Safe to call twice.
func (t *ticket) release() {
	p := t.of
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case t.released:
	case t.place != nil:
		p.queue.Remove(t.place)
		t.place = nil
	case p.queue.Len() > 0:
		next, _ := p.queue.Remove(p.queue.Front()).(*ticket) // nothing else is ever put in
		next.place = nil
		close(next.turn)
	default:
		p.free++
	}
	t.released = true
}

// waiting is the number of tickets in the queue.
func (p *permit) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue.Len()
}
