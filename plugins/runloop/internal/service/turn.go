package service

import (
	"context"
	"sync"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// turns let one operation at a time change a sandbox. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	byID map[string]*turn
}

type turn struct {
	token chan struct{}
	users int
}

// take blocks until it is the caller's turn, or ctx is done. The caller calls leave once.
func (t *turns) take(ctx context.Context, id string) (leave func(), err error) {
	t.mu.Lock()
	if t.byID == nil {
		t.byID = map[string]*turn{}
	}
	one := t.byID[id]
	if one == nil {
		one = &turn{token: make(chan struct{}, 1)}
		t.byID[id] = one
	}
	one.users++
	t.mu.Unlock()
	select {
	case one.token <- struct{}{}:
		return func() { <-one.token; t.release(id, one) }, nil
	case <-ctx.Done():
		t.release(id, one)
		return nil, rterr.Wrap(rterr.Timeout, "wait for the sandbox's turn", context.Cause(ctx))
	}
}

func (t *turns) release(id string, one *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one.users--
	if one.users == 0 {
		delete(t.byID, id)
	}
}
