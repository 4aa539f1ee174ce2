package plugin

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPolicyByTheBook(t *testing.T) {
	p := Policy{}.withDefaults(false)
	now := time.Unix(1_000_000, 0)
	var history []time.Time
	var v verdict
	for i, ceiling := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
		v, history = p.next(history, now, 0.5)
		if v.quarantine || v.delay != ceiling/2 {
			t.Errorf("failure %d: %+v, want %v", i+1, v, ceiling/2)
		}
		now = now.Add(time.Minute)
	}
	if v, _ = p.next(history, now, 0.5); !v.quarantine {
		t.Errorf("the sixth failure in ten minutes: %+v", v)
	}
	// The first one leaves the window: five are left.
	if v, _ = p.next(history, now.Add(5*time.Minute), 0.5); v.quarantine {
		t.Error("an old failure counts")
	}
	if v, history = p.next(history, now.Add(time.Hour), 0.5); v.delay != 250*time.Millisecond || len(history) != 1 {
		t.Errorf("after an hour: %+v, %d remembered", v, len(history))
	}
}

func TestAddressesAreNeverQuarantined(t *testing.T) {
	p := Policy{}.withDefaults(true)
	var history []time.Time
	var v verdict
	for range 1000 {
		v, history = p.next(history, time.Unix(0, 0), 0.999)
	}
	if v.quarantine || v.delay > p.Max || v.delay < p.Max/2 || len(history) > maxRemembered {
		t.Errorf("%+v, %d remembered", v, len(history))
	}
}

func TestPolicyInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{
			Base: time.Duration(rapid.Int64Range(1, 1e10).Draw(t, "base")), Max: time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "max")),
			Budget: rapid.IntRange(-1, 10).Draw(t, "budget"), Window: time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "window")),
		}.withDefaults(false)
		now := time.Unix(0, 0)
		var history []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "failures") {
			now = now.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "gap")))
			var v verdict
			v, history = p.next(history, now, rapid.Float64Range(0, 0.9999).Draw(t, "random"))
			if v.delay < 0 || v.delay > p.Max {
				t.Fatalf("delay %v beyond %v", v.delay, p.Max)
			}
			if v.quarantine != (p.Budget >= 0 && len(history) > p.Budget) {
				t.Fatalf("quarantine %v with %d of %d", v.quarantine, len(history), p.Budget)
			}
			if v.quarantine {
				return
			}
		}
	})
}
