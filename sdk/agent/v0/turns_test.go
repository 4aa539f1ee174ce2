package v0

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestTurnsComeInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q turns
		if err := q.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []int
		gone, leave := context.WithCancel(t.Context())
		for i := range 10 {
			ctx := t.Context()
			if i%3 == 0 {
				ctx = gone
			}
			go func() {
				if err := q.take(ctx); err != nil {
					if e := rterr.From(err); e.Reason != rterr.Cancelled || e.Ran != rterr.RanNo {
						t.Error(err)
					}
					return
				}
				order = append(order, i)
				q.give()
			}()
			synctest.Wait()
		}
		if q.waiting() != 10 {
			t.Errorf("%d wait", q.waiting())
		}
		leave()
		synctest.Wait()
		q.give()
		synctest.Wait()
		if !slices.Equal(order, []int{1, 2, 4, 5, 7, 8}) || q.waiting() != 0 || q.taken {
			t.Errorf("%v, %d wait, taken %v", order, q.waiting(), q.taken)
		}
	})
}

func TestTurnsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q turns
		ctx, cancel := context.WithCancel(t.Context())
		for range maxWaiting + 1 {
			go func() { _ = q.take(ctx) }()
		}
		synctest.Wait()
		e := rterr.From(q.take(ctx))
		if e == nil || e.Reason != rterr.LimitExceeded || e.Ran != rterr.RanNo || FailureOf(e).Status != 429 {
			t.Errorf("%v", e)
		}
		cancel()
		synctest.Wait()
		if q.waiting() != 0 {
			t.Errorf("%d wait", q.waiting())
		}
	})
}

// A turn that comes in the very moment in which its waiter leaves is passed on.
func TestATurnIsNeverLost(t *testing.T) {
	for range 200 {
		var q turns
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(q.take(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			err := q.take(ctx)
			if err == nil {
				q.give()
			}
			first <- err
		}()
		go cancel()
		q.give()
		<-first
		must(q.take(t.Context()))
	}
}
