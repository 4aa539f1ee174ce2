package runtime

import (
	"context"
	"io"
	"sync"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// relay carries the events of an action from the keeper that holds its stream to the client that started it. The keeper never
// waits for the client: when more than limit bytes are queued, the relay lets go of the keeper, and the client reads the rest
// at its own pace from a stream of its own (resume), from the offset that it has reached. So a slow client loses nothing and
// holds up nobody, and the host's memory is bounded.
type relay struct {
	limit  int
	resume func(ctx context.Context, cur *cursor) (*resuming, error)

	mu     sync.Mutex
	wake   chan struct{} // capacity 1
	queue  []*agentv1.ActionEvent
	queued int
	err    error // why the action has no stream; after the queue is read
	ended  bool  // the observation, or err, has been pushed
	behind bool  // the keeper was let go
	closed bool

	// of the reader alone
	ctx       context.Context
	cur       *cursor
	recorded  bool
	own       *resuming
	delivered bool
}

func newRelay(ctx context.Context, limit int, from []*agentv1.OutputCursor,
	resume func(context.Context, *cursor) (*resuming, error),
) *relay {
	return &relay{limit: limit, resume: resume, wake: make(chan struct{}, 1), ctx: ctx, cur: newCursor(from)}
}

// push queues an event and reports whether the reader still wants more from the keeper.
func (r *relay) push(ev *agentv1.ActionEvent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.behind || r.ended {
		return false
	}
	size := len(ev.GetOutput().GetData())
	if r.queued+size > r.limit && r.queued > 0 && ev.GetObservation() == nil {
		r.behind = true
		r.signal()
		return false
	}
	r.queue = append(r.queue, ev)
	r.queued += size
	r.ended = ev.GetObservation() != nil
	r.signal()
	return true
}

// fail ends the stream with err instead of an observation.
func (r *relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended, r.err = true, err
	r.signal()
}

func (r *relay) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// pop returns the next queued event; without one, whether the reader has to go on by itself, or has been told why not.
func (r *relay) pop() (ev *agentv1.ActionEvent, behind bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) > 0 {
		ev, r.queue = r.queue[0], r.queue[1:]
		r.queued -= len(ev.GetOutput().GetData())
		return ev, false, nil
	}
	return nil, r.behind, r.err
}

// Recv returns the next event, one record first, io.EOF after the observation.
func (r *relay) Recv() (*agentv1.ActionEvent, error) {
	for {
		if r.delivered {
			return nil, io.EOF
		}
		ev, err := r.next()
		if err != nil {
			return nil, err
		}
		if ev.GetRecord() != nil {
			if r.recorded {
				continue // the one that said "queued" came first
			}
			r.recorded = true
		}
		r.cur.advance(ev)
		r.delivered = ev.GetObservation() != nil
		return ev, nil
	}
}

func (r *relay) next() (*agentv1.ActionEvent, error) {
	for r.own == nil {
		ev, behind, err := r.pop()
		switch {
		case ev != nil:
			return ev, nil
		case err != nil:
			return nil, err
		case behind:
			if r.own, err = r.resume(r.ctx, r.cur); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-r.wake:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
	return r.own.Recv()
}

// Close lets go of the keeper; the action goes on.
func (r *relay) Close() error {
	r.mu.Lock()
	r.closed, r.queue, r.queued = true, nil, 0
	r.mu.Unlock()
	if r.own != nil {
		return r.own.Close()
	}
	return nil
}
