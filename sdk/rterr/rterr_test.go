package rterr

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestReasonNamesAreUniqueAndSet(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		name := r.String()
		if name == "unspecified" || seen[name] {
			t.Errorf("reason %d: name %q is missing or taken", r, name)
		}
		seen[name] = true
	}
}

func TestWrapKeepsTheReason(t *testing.T) {
	inner := New(QuotaExceeded, "create devbox", "limit of 5").With("request_id", "r1").WithRan(RanNo)
	err := Wrap(Internal, "connect runtime r-1", fmt.Errorf("step: %w", inner))
	e := From(err)
	if e.Reason != QuotaExceeded || e.Ran != RanNo || e.Evidence["request_id"] != "r1" {
		t.Errorf("lost on the way: %+v", e)
	}
	if got, want := err.Error(), "connect runtime r-1: create devbox: limit of 5"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if !errors.Is(err, &Error{Reason: QuotaExceeded}) || !errors.Is(err, inner) {
		t.Error("errors.Is does not see it")
	}
}

func TestWrapKnowsContextErrors(t *testing.T) {
	if got := ReasonOf(Wrap(Network, "x", context.DeadlineExceeded)); got != Timeout {
		t.Errorf("deadline: %v", got)
	}
	if got := ReasonOf(Wrap(Network, "x", context.Canceled)); got != Cancelled {
		t.Errorf("cancel: %v", got)
	}
	if Wrap(Network, "x", nil) != nil || From(nil) != nil {
		t.Error("nil became an error")
	}
}
