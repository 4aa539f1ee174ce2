package serve

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		callCtx, leaveCall, err := g.enter(t.Context(), backendv1.BackendService_Pause_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		watchCtx, leaveWatch, err := g.enter(t.Context(), backendv1.BackendService_WatchStatus_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		var drained, again error
		var done atomic.Int32
		for _, to := range []*error{&drained, &again} {
			go func() { *to = g.drain(t.Context()); done.Add(1) }()
		}
		synctest.Wait()
		if done.Load() != 0 || callCtx.Err() != nil {
			t.Errorf("%d drains ended under a running call, whose context is %v", done.Load(), callCtx.Err())
		}
		for _, method := range []string{backendv1.BackendService_Connect_FullMethodName, backendv1.BackendService_Restore_FullMethodName} {
			_, _, err := g.enter(t.Context(), method)
			if e := rterr.From(err); e.Reason != rterr.Unavailable || e.Ran != rterr.RanNo {
				t.Errorf("%s while draining: %v", method, err)
			}
		}
		leaveCall()
		synctest.Wait()
		if done.Load() != 2 || drained != nil || again != nil || watchCtx.Err() != nil {
			t.Errorf("%d drains ended, %v, %v; the watch is %v", done.Load(), drained, again, watchCtx.Err())
		}
		var shut error
		go func() { shut = g.shut(t.Context()); done.Add(1) }()
		synctest.Wait()
		if done.Load() != 2 || watchCtx.Err() == nil {
			t.Error("shut does not cancel, or does not wait")
		}
		leaveWatch()
		synctest.Wait()
		if done.Load() != 3 || shut != nil {
			t.Errorf("shut: %v", shut)
		}
	})
}

func TestGateWaitsNoLongerThanAsked(t *testing.T) {
	g := newGate()
	_, leave, err := g.enter(t.Context(), backendv1.BackendService_Pause_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	impatient := errors.New("impatient")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(impatient)
	if err := g.drain(ctx); !errors.Is(err, impatient) {
		t.Errorf("drain = %v", err)
	}
	if err := g.shut(ctx); !errors.Is(err, impatient) {
		t.Errorf("shut = %v", err)
	}
}

func TestGateLetsOtherServicesPass(t *testing.T) {
	g := newGate()
	if err := g.drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, leave, err := g.enter(t.Context(), "/grpc.health.v1.Health/Check")
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	if err := g.shut(t.Context()); err != nil {
		t.Errorf("shut waits for a health check: %v", err)
	}
}
