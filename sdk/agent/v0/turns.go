package v0

import (
	"context"
	"slices"
	"sync"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxWaiting bounds the actions that wait for their turn.
const maxWaiting = 1000

// turns lets one at a time in, in the order of arrival. The zero value is free.
type turns struct {
	mu    sync.Mutex
	taken bool
	queue []chan struct{}
}

// take blocks until it is the caller's turn, which give ends. Errors, with ran no: LimitExceeded if too many wait, Cancelled if ctx
// ended first.
func (t *turns) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	if len(t.queue) >= maxWaiting {
		t.mu.Unlock()
		return rterr.New(rterr.LimitExceeded, "", "%d actions wait for their turn", maxWaiting).WithRan(rterr.RanNo)
	}
	mine := make(chan struct{})
	t.queue = append(t.queue, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
		t.leave(mine)
		return rterr.From(rterr.Wrap(rterr.Cancelled, "", ctx.Err())).WithRan(rterr.RanNo)
	}
}

// leave takes a waiter out of the queue. One whose turn has come meanwhile passes it on.
func (t *turns) leave(mine chan struct{}) {
	t.mu.Lock()
	i := slices.Index(t.queue, mine)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 {
		t.give()
	}
}

// give passes the turn to who has waited longest.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	close(t.queue[0])
	t.queue = t.queue[1:]
}

// waiting returns the number of those that wait.
func (t *turns) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue)
}
