package runtime

import (
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func enter(t *testing.T, p *permit) *ticket {
	t.Helper()
	k, err := p.enter()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPermitIsFirstComeFirstServed(t *testing.T) {
	p := newPermit(1, 10)
	holder := enter(t, p)
	var line []*ticket
	for range 5 {
		line = append(line, enter(t, p))
	}
	if p.waiting() != 5 {
		t.Errorf("%d are waiting, want 5", p.waiting())
	}
	for i, next := range line {
		if next.held() {
			t.Fatalf("%d is early", i)
		}
		holder.release()
		holder.release() // twice must not free another's permit
		if !next.held() {
			t.Fatalf("%d does not have its turn", i)
		}
		holder = next
	}
}

func TestPermitQueueIsBoundedAndCancellable(t *testing.T) {
	p := newPermit(1, 1)
	holder, waiter := enter(t, p), enter(t, p)
	if _, err := p.enter(); !rterr.Is(err, rterr.LimitExceeded) || rterr.From(err).Ran != rterr.RanNo {
		t.Errorf("a full queue: %v", err)
	}
	withdrawn := rterr.New(rterr.Cancelled, "", "withdrawn")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(withdrawn)
	if err := waiter.wait(ctx); !errors.Is(err, withdrawn) || rterr.From(err).Ran != rterr.RanNo {
		t.Errorf("a cancelled wait: %v", err)
	}
	next := enter(t, p)
	holder.release()
	if err := next.wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// The permit against a model: a slice of who holds and who waits.
func TestPermitAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		holders, limit := rapid.IntRange(1, 3).Draw(t, "holders"), rapid.IntRange(0, 4).Draw(t, "limit")
		p := newPermit(holders, limit)
		var line []*ticket // in the order of entering; the first `holders` of them hold
		t.Repeat(map[string]func(*rapid.T){
			"enter": func(t *rapid.T) {
				k, err := p.enter()
				if full := len(line) >= holders+limit; full != (err != nil) {
					t.Fatalf("%d are in, error %v", len(line), err)
				}
				if err == nil {
					line = append(line, k)
				}
			},
			"release": func(t *rapid.T) {
				if len(line) == 0 {
					t.Skip("nobody is in")
				}
				i := rapid.IntRange(0, len(line)-1).Draw(t, "who")
				line[i].release()
				line = append(line[:i:i], line[i+1:]...)
			},
			"": func(t *rapid.T) {
				for i, k := range line {
					if k.held() != (i < holders) {
						t.Fatalf("ticket %d of %d: held %v", i, len(line), k.held())
					}
				}
				if want := max(len(line)-holders, 0); p.waiting() != want {
					t.Fatalf("%d are waiting, want %d", p.waiting(), want)
				}
			},
		})
	})
}
