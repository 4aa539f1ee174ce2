package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// sink is what a queue writes to: gated, so that a test decides when a write ends.
type sink struct {
	mu    sync.Mutex
	wrote []string
	gate  chan error
}

func (s *sink) write(ctx context.Context, key Key, value string) error {
	if s.gate != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-s.gate:
			if err != nil {
				return err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote = append(s.wrote, string(key)+"="+value)
	return nil
}

func TestBehindCoalescesAndCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{gate: make(chan error)}
		b := newBehind(out.write, hclog.NewNullLogger())
		put := func(key Key, value string) {
			t.Helper()
			if err := b.put(t.Context(), key, value, 1); err != nil {
				t.Fatal(err)
			}
		}
		put("a", "0")
		put("a", "1")
		time.Sleep(2 * behindLinger) // a=1 is being written
		synctest.Wait()
		put("b", "1")
		put("a", "2")
		put("b", "2")
		put("b", "3")
		if v, ok := b.get("b"); !ok || v != "3" || b.len() != 2 {
			t.Errorf("b is %q, %d wait", v, b.len())
		}
		if all := b.all(); len(all) != 2 || all["a"] != "2" {
			t.Errorf("all: %v", all)
		}
		close(out.gate)
		if err := b.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(out.wrote, " "); got != "a=1 b=3 a=2" {
			t.Errorf("wrote %s", got)
		}
		if err := b.put(t.Context(), "c", "1", 1); !rterr.Is(err, rterr.Unavailable) {
			t.Errorf("put after close: %v", err)
		}
	})
}

func TestBehindIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{gate: make(chan error)}
		b := newBehind(out.write, hclog.NewNullLogger())
		for i := range 16 {
			if err := b.put(t.Context(), Key(fmt.Sprint(i)), "x", behindBytes/16); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := b.put(ctx, "more", "x", 1)
		if !rterr.Is(err, rterr.Timeout) || b.dropped.Load() != 1 {
			t.Errorf("%v, %d dropped", err, b.dropped.Load())
		}
		blocked := make(chan error, 1)
		go func() { blocked <- b.put(t.Context(), "later", "x", 1) }()
		synctest.Wait()
		out.gate <- nil // room for one
		if err := <-blocked; err != nil {
			t.Errorf("put did not go on: %v", err)
		}
		close(out.gate)
		if err := b.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(out.wrote) != 17 || b.bytes != 0 {
			t.Errorf("%d written, %d bytes left", len(out.wrote), b.bytes)
		}
	})
}

func TestBehindTriesAgainOnlyWhatMayPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{gate: make(chan error)}
		b := newBehind(out.write, hclog.NewNullLogger())
		began := time.Now()
		for _, key := range []Key{"a", "b"} {
			if err := b.put(t.Context(), key, "1", 1); err != nil {
				t.Fatal(err)
			}
		}
		out.gate <- rterr.New(rterr.Unavailable, "put", "away")
		out.gate <- rterr.New(rterr.Unavailable, "put", "away")
		out.gate <- nil
		out.gate <- errors.New("never")
		if err := b.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(out.wrote) != 1 || b.dropped.Load() != 1 || time.Since(began) != 150*time.Millisecond+2*behindLinger {
			t.Errorf("wrote %v, %d dropped, after %s", out.wrote, b.dropped.Load(), time.Since(began))
		}
		if err := b.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestBehindKeepsTheNewerValueWhenAnOldOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{gate: make(chan error)}
		b := newBehind(out.write, hclog.NewNullLogger())
		_ = b.put(t.Context(), "a", "old", 5)
		time.Sleep(2 * behindLinger) // it is being written
		synctest.Wait()
		_ = b.put(t.Context(), "a", "new", 5)
		out.gate <- rterr.New(rterr.Unavailable, "put", "away")
		close(out.gate)
		if err := b.flushKey(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if err := b.close(t.Context()); err != nil || strings.Join(out.wrote, " ") != "a=new" || b.bytes != 0 {
			t.Errorf("wrote %v, %d bytes left, %v", out.wrote, b.bytes, err)
		}
	})
}

func TestBehindCloseSaysWhatItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{gate: make(chan error)}
		b := newBehind(out.write, hclog.NewNullLogger())
		for _, key := range []Key{"a", "b", "c"} {
			_ = b.put(t.Context(), key, "1", 1)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.close(ctx); err == nil || !strings.Contains(err.Error(), "records were not written") {
			t.Errorf("%v", err)
		}
	})
}

func TestActionsAreReadWhereverTheyAre(t *testing.T) {
	s := openStore(t, Bounds{})
	ctx := t.Context()
	for _, a := range []Action{
		{ID: "x", RuntimeID: "r-1"}, {ID: "x", RuntimeID: "r-2"}, {ID: "y.z:1", RuntimeID: "r-1", FinishedAt: time.Unix(5, 0)},
	} {
		if err := s.Actions.Put(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		if found, err := s.Actions.Find(ctx, "x"); err != nil || len(found) != 2 {
			t.Errorf("%s: find: %+v, %v", when, found, err)
		}
		if list, err := s.Actions.List(ctx, "r-1"); err != nil || len(list) != 2 {
			t.Errorf("%s: list: %+v, %v", when, list, err)
		}
		if list, err := s.Actions.List(ctx, ""); err != nil || len(list) != 3 {
			t.Errorf("%s: list of all: %+v, %v", when, list, err)
		}
		if a, err := s.Actions.Get(ctx, "r-1", "y.z:1"); err != nil || !a.Done() {
			t.Errorf("%s: get: %+v, %v", when, a, err)
		}
	}
	check("at once")
	if err := s.Actions.Flush(ctx); err != nil || s.Actions.Waiting() != 0 || s.Actions.Dropped() != 0 {
		t.Fatalf("flush: %v, %d wait", err, s.Actions.Waiting())
	}
	check("written")
	big := Action{ID: "big", RuntimeID: "r-1", Observation: make([]byte, MaxObservation+1)}
	if err := s.Actions.PutNow(ctx, big); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Actions.Get(ctx, "r-1", "big"); err != nil || a.Observation != nil || !a.ObservationDropped {
		t.Errorf("big: %d bytes, %v", len(a.Observation), err)
	}
	if _, err := s.Actions.Get(ctx, "r-1", "none"); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("none: %v", err)
	}
}
