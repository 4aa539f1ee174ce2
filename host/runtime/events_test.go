package runtime

import (
	"context"
	"sync"
	"testing"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

type memoryLog struct {
	mu     sync.Mutex
	events []*runtimev1.RuntimeEvent
}

func (l *memoryLog) Append(ev *runtimev1.RuntimeEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, ev)
}

func (l *memoryLog) ListEvents(_ context.Context, id string, after uint64, limit int) ([]*runtimev1.RuntimeEvent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*runtimev1.RuntimeEvent
	for _, ev := range l.events {
		if (id == "" || ev.GetRuntimeId() == id) && ev.GetSequence() > after && len(out) < limit {
			out = append(out, ev)
		}
	}
	return out, nil
}

func phaseEvent(id string) *runtimev1.RuntimeEvent {
	return &runtimev1.RuntimeEvent{RuntimeId: id, Event: &runtimev1.RuntimeEvent_Phase{Phase: &runtimev1.PhaseChanged{}}}
}

func watch(t *testing.T, h *hub) *watcher {
	t.Helper()
	w, err := h.watch("r1")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestSlowWatcherIsToldWhatItMissedAndHurtsNobody(t *testing.T) {
	log := &memoryLog{}
	h := newHub(log, 41, 3, 2)
	slow, quick := watch(t, h), watch(t, h)
	if _, err := h.watch("r1"); !rterr.Is(err, rterr.LimitExceeded) {
		t.Errorf("a third watcher of at most two: %v", err)
	}
	defer slow.close()
	defer quick.close()
	for i := range 10 {
		h.publish(phaseEvent("r1"))
		h.publish(phaseEvent("other"))
		ev, err := quick.next(t.Context())
		if err != nil || ev.GetSequence() != uint64(42+2*i) {
			t.Fatalf("event %d: %v, %v", i, ev, err)
		}
	}
	var sequences []uint64
	for range 3 {
		ev, err := slow.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sequences = append(sequences, ev.GetSequence())
	}
	if sequences[0] != 42 || sequences[2] != 46 {
		t.Errorf("first events %v", sequences)
	}
	if ev, err := slow.next(t.Context()); err != nil || ev.GetMissed() != 7 {
		t.Errorf("missed: %v, %v", ev, err)
	}
	h.publish(phaseEvent("r1"))
	if ev, err := slow.next(t.Context()); err != nil || ev.GetSequence() != 62 {
		t.Errorf("after the loss: %v, %v", ev, err)
	}
	if len(log.events) != 21 {
		t.Errorf("the log has %d events, want all 21", len(log.events))
	}
}

func TestWatcherEndsWithItsContextAndLeavesNothing(t *testing.T) {
	h := newHub(&memoryLog{}, 0, 1, 1)
	w := watch(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.next(ctx); err == nil {
		t.Error("no error after the end")
	}
	w.close()
	if len(h.watchers) != 0 {
		t.Error("a closed watcher is still there")
	}
}
