package runtime

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// reader collects the events of a watch, which ends with the test's wish.
type reader struct {
	events []*runtimev1.RuntimeEvent
	// slow, if set, holds up the reader before each event.
	slow chan struct{}
	end  context.CancelFunc
	done chan error
}

func follow(ctx context.Context, m *Manager, ref string, after uint64, newOnly bool, slow chan struct{}) *reader {
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{slow: slow, end: cancel, done: make(chan error, 1)}
	go func() {
		r.done <- m.WatchEvents(ctx, ref, after, newOnly, func(ev *runtimev1.RuntimeEvent) error {
			if r.slow != nil {
				<-r.slow
			}
			r.events = append(r.events, ev)
			return nil
		})
	}()
	return r
}

// stop ends the watch and returns what it got.
func (r *reader) stop(t *testing.T) []*runtimev1.RuntimeEvent {
	t.Helper()
	r.end()
	if err := <-r.done; !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("the watch ended with %v", err)
	}
	return r.events
}

// sameEvents checks that got is what a log has of some runtimes after a sequence, each once, in order.
func sameEvents(t *testing.T, mem *memory, got []*runtimev1.RuntimeEvent, after uint64, runtimes ...string) {
	t.Helper()
	var want []*runtimev1.RuntimeEvent
	for _, id := range runtimes {
		list, err := mem.ListEvents(t.Context(), id, after, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, list...)
	}
	if len(got) != len(want) {
		t.Errorf("%d events, want %d", len(got), len(want))
	}
	for i := 1; i < len(got); i++ {
		if got[i].GetSequence() <= got[i-1].GetSequence() {
			t.Errorf("event %d after %d", got[i].GetSequence(), got[i-1].GetSequence())
		}
	}
}

func TestWatchEventsGoesOnFromTheLogOverAllRuntimesOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		first := create(t, m, "s1").GetId()
		foreign, _, err := m.Create(as(t, "q"), &runtimev1.CreateRuntimeRequest{Sid: "s1", Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		middle := m.hub.sequence.Load() - 3
		all, one := follow(as(t, "p"), m, "", 0, false, nil), follow(as(t, "p"), m, first, 0, false, nil)
		late, fresh := follow(as(t, "p"), m, "", middle, false, nil), follow(as(t, "p"), m, "", 0, true, nil)
		theirs := follow(as(t, "q"), m, "", 0, false, nil)
		synctest.Wait()
		before := m.hub.sequence.Load()
		second := create(t, m, "s2").GetId()
		if _, err := m.Stop(as(t, "p"), first, false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		sameEvents(t, mem, all.stop(t), 0, first, second)
		sameEvents(t, mem, one.stop(t), 0, first)
		sameEvents(t, mem, late.stop(t), middle, first, second)
		sameEvents(t, mem, fresh.stop(t), before, first, second)
		sameEvents(t, mem, theirs.stop(t), 0, foreign.GetId())
	})
}

func TestASlowWatcherOfAllLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem, func(o *Options) { o.Limits.Lag = 2 })
		defer m.Close()
		id := create(t, m, "s1").GetId()
		slow := make(chan struct{})
		r := follow(as(t, "p"), m, "", 0, false, slow)
		synctest.Wait()
		for range 3 * maxListed / 2 {
			m.Recovered(id, &runtimev1.RecoveryAttempt{Operation: "x"})
		}
		close(slow)
		synctest.Wait()
		sameEvents(t, mem, r.stop(t), 0, id)
	})
}

func TestWatchEventsRefusesAndReportsAFailedReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newWorld(), newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		broken := errors.New("the connection is gone")
		err := m.WatchEvents(as(t, "p"), "", 0, false, func(*runtimev1.RuntimeEvent) error { return broken })
		if !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		if err := m.WatchEvents(as(t, "q"), v.GetId(), 0, false, nil); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("somebody else's runtime: %v", err)
		}
		if err := m.WatchEvents(t.Context(), "", 0, false, nil); !rterr.Is(err, rterr.Unauthenticated) {
			t.Errorf("nobody: %v", err)
		}
	})
}

func TestStoppedRuntimesAreListedFromTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		old := create(t, m, "old")
		if _, err := m.Stop(as(t, "p"), old.GetId(), false); err != nil {
			t.Fatal(err)
		}
		live := create(t, m, "live")
		m.mu.Lock()
		delete(m.runtimes, old.GetId()) // as room does after the retention
		m.mu.Unlock()
		for _, c := range []struct {
			who  string
			all  bool
			want int
		}{{"p", false, 1}, {"p", true, 2}, {"q", true, 0}} {
			if list, err := m.List(as(t, c.who), c.all); err != nil || len(list) != c.want {
				t.Errorf("%+v: %v, %v", c, list, err)
			}
		}
		for _, ref := range []string{old.GetId(), "old"} {
			got, err := m.Get(as(t, "p"), ref)
			if err != nil || got.GetId() != old.GetId() || got.GetUrl() == "" || live.GetId() == got.GetId() {
				t.Errorf("%s: %v, %v", ref, got, err)
			}
		}
		for who, ref := range map[string]string{"q": old.GetId(), "p": "never"} {
			if _, err := m.Get(as(t, who), ref); !rterr.Is(err, rterr.NotFound) {
				t.Errorf("%s %s: %v", who, ref, err)
			}
		}
		if _, err := m.Execute(as(t, "p"), old.GetId(), process("a")); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("an action in it: %v", err)
		}
	})
}
