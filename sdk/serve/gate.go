package serve

import (
	"context"
	"strings"
	"sync"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const servicePrefix = "/" + "openhands.backend.v1.BackendService" + "/"

// gate counts running calls and refuses new sandboxes once the plugin drains.
type gate struct {
	mu       sync.Mutex
	draining bool
	awaited  int // calls that a drain waits for
	entered  int // all calls
	waiters  []waiter
	cut      chan struct{} // closed by shut: every call is cancelled
	shutOnce sync.Once
}

type waiter struct {
	all  bool
	done chan struct{}
}

func newGate() *gate { return &gate{cut: make(chan struct{})} }

// enter admits a call. The returned context ends with the caller's and with shut; leave must be called once.
func (g *gate) enter(ctx context.Context, method string) (_ context.Context, leave func(), err error) {
	if !strings.HasPrefix(method, servicePrefix) {
		return ctx, func() {}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining && makesSandbox(method) {
		return nil, nil, rterr.New(rterr.Unavailable, "", "the plugin is draining").WithRan(rterr.RanNo)
	}
	counted := awaitedByDrain(method)
	g.entered++
	if counted {
		g.awaited++
	}
	ctx, cancel := context.WithCancel(ctx)
	returned := make(chan struct{})
	go func() {
		defer cancel()
		select {
		case <-g.cut:
		case <-returned:
		}
	}()
	return ctx, func() { close(returned); g.leave(counted) }, nil
}

func makesSandbox(method string) bool {
	return method == backendv1.BackendService_Connect_FullMethodName || method == backendv1.BackendService_Restore_FullMethodName
}

// awaitedByDrain leaves out the calls that end with the plugin alone.
func awaitedByDrain(method string) bool {
	switch method {
	case backendv1.BackendService_WatchStatus_FullMethodName, backendv1.BackendService_Logs_FullMethodName,
		backendv1.BackendService_Drain_FullMethodName:
		return false
	default:
		return true
	}
}

func (g *gate) leave(counted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entered--
	if counted {
		g.awaited--
	}
	kept := g.waiters[:0]
	for _, w := range g.waiters {
		if g.idle(w.all) {
			close(w.done)
			continue
		}
		kept = append(kept, w)
	}
	g.waiters = kept
}

func (g *gate) idle(all bool) bool { return (all && g.entered == 0) || (!all && g.awaited == 0) }

// drain refuses new sandboxes from now on and blocks until no awaited call runs, or until ctx ends.
func (g *gate) drain(ctx context.Context) error {
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	return g.wait(ctx, false)
}

// shut cancels every call and blocks until all have returned, or until ctx ends.
func (g *gate) shut(ctx context.Context) error {
	g.shutOnce.Do(func() { close(g.cut) })
	return g.wait(ctx, true)
}

func (g *gate) wait(ctx context.Context, all bool) error {
	g.mu.Lock()
	if g.idle(all) {
		g.mu.Unlock()
		return nil
	}
	w := waiter{all: all, done: make(chan struct{})}
	g.waiters = append(g.waiters, w)
	g.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
