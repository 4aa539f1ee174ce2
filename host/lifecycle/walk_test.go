package lifecycle_test

import (
	"testing"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
)

// follower does what the effects say, as host/runtime does, so that walks can check that effects and status never part.
type follower struct {
	status    lifecycle.Status
	armed     bool
	admitting bool
	withdrawn bool
}

func (f *follower) apply(t *testing.T, e lifecycle.Effect) {
	t.Helper()
	switch e.Kind {
	case lifecycle.DisarmLimit:
		if !f.armed {
			t.Fatalf("%s: disarmed what was not armed", f.status)
		}
		f.armed = false
	case lifecycle.ArmLimit:
		if f.armed || e.Limit <= 0 {
			t.Fatalf("%s: armed twice, or with %s", f.status, e.Limit)
		}
		f.armed = true
	case lifecycle.RefuseActions:
		f.admitting = false
	case lifecycle.WithdrawActions:
		f.withdrawn = true
	case lifecycle.AdmitActions:
		f.admitting, f.withdrawn = true, false
	case lifecycle.Notify:
		if e.From == e.To {
			t.Fatalf("notified of no change: %s", e)
		}
	default:
		t.Fatalf("unknown effect %v", e)
	}
}

func (f *follower) check(t *testing.T) {
	t.Helper()
	if f.armed != (lifecycle.Limit(f.status) > 0) {
		t.Fatalf("%s: armed=%v", f.status, f.armed)
	}
	if f.admitting != f.status.AdmitsActions() {
		t.Fatalf("%s: admitting=%v", f.status, f.admitting)
	}
	if _, _, err := lifecycle.Next(f.status, lifecycle.EventClose); err != nil {
		t.Fatalf("%s cannot be closed: %v", f.status, err)
	}
}

// FuzzWalk takes random walks: effects always fit the status, nothing leads outside of the nine, everything can be closed.
func FuzzWalk(f *testing.F) {
	f.Add([]byte{1, 4, 7, 9, 4, 7, 14})
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 11, 13, 10, 12})
	f.Fuzz(func(t *testing.T, walk []byte) {
		at := follower{status: lifecycle.Stopped}
		for _, step := range walk {
			event := lifecycle.Event(step % 16)
			to, effects, err := lifecycle.Next(at.status, event)
			if err != nil && (to != at.status || effects != nil) {
				t.Fatalf("a refused event moved %s to %s with %v", at.status, to, effects)
			}
			if to == at.status && len(effects) > 0 {
				t.Fatalf("%s in %s changed nothing and has effects %v", event, at.status, effects)
			}
			at.status = to
			for _, e := range effects {
				at.apply(t, e)
			}
			at.check(t)
			if !at.status.Valid() {
				t.Fatalf("walked to %d", at.status)
			}
		}
	})
}
