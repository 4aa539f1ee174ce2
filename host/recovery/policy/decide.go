package policy

import (
	"math"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Op is the operation that failed.
type Op struct {
	// Name is for people and metrics: "connect", "renew". A small set.
	Name string
	// Backend and Runtime say whom it concerns; either may be empty.
	Backend, Runtime string
	// Idempotent: running it twice is as good as once.
	Idempotent bool
	// Timeout is that of the first attempt; zero: the context alone bounds it.
	Timeout time.Duration
	// CanRollback: the backend has checkpoints.
	CanRollback bool
}

// History is what came before the decision.
type History struct {
	// Attempts counts those that were made, the one that just failed included.
	Attempts int
	// Failures counts the earlier failures of each class, the one to be decided on excluded.
	Failures [classCount]int
	// Elapsed is the time since the operation began.
	Elapsed time.Duration
	// Left is what the caller's deadline leaves; zero: no deadline.
	Left time.Duration
	// Timeout is that of the attempt that failed; zero: none.
	Timeout time.Duration
	// Dice is a random number from 0 to 1, for the jitter.
	Dice float64
}

// Decision is what to do.
type Decision struct {
	Class    Class
	Strategy Strategy
	// Retry: try again after Delay, with Timeout (zero: none) for the attempt.
	Retry   bool
	Delay   time.Duration
	Timeout time.Duration
	// Exhausted: a budget is used up, or the backend has nothing left.
	Exhausted bool
	// Why is the rule that decided, for people.
	Why string
}

// Decide says what to do about err. An operation that is not idempotent and may have run (the error does not say that it has
// not) is never retried.
func Decide(table Table, op Op, h History, err error) Decision {
	class := Classify(err)
	rule, ok := table[class]
	if !ok {
		rule.Strategy = GiveBack
	}
	d := Decision{Class: class, Strategy: rule.Strategy, Timeout: h.Timeout}
	switch rule.Strategy {
	case Backoff, LongerTimeout, RefreshCredential:
	case Degrade:
		d.Exhausted = true
		d.Why = "the backend has nothing left to give"
		return d
	case Rollback:
		d.Why = "the same request fails again"
		if !op.CanRollback {
			d.Strategy = GiveBack
		}
		return d
	default:
		d.Why = "for the caller to decide"
		return d
	}
	e := rterr.From(err)
	if !op.Idempotent && e.Ran != rterr.RanNo {
		d.Strategy, d.Why = GiveBack, "it may have run, and must not run twice"
		return d
	}
	return retry(d, rule.Budget, h, e)
}

// retry fills in a retry, or says which bound is in its way.
func retry(d Decision, b Budget, h History, e *rterr.Error) Decision {
	failed := h.Failures[d.Class]
	if d.Strategy == Backoff {
		d.Delay = jittered(b, failed, h.Dice)
	}
	d.Delay = max(d.Delay, e.RetryAfter)
	if d.Strategy == LongerTimeout && h.Timeout > 0 {
		d.Timeout = longer(b, h.Timeout)
	}
	start := h.Elapsed + d.Delay
	switch {
	case failed >= b.Retries || h.Attempts >= MaxAttempts:
		d.Why = "all retries are used up"
	case b.Elapsed > 0 && start > b.Elapsed:
		d.Why = "the time for retries is used up"
	case h.Left > 0 && d.Delay >= h.Left:
		d.Why = "the deadline would pass before the retry"
	case d.Strategy == LongerTimeout && h.Timeout > 0 && d.Timeout <= h.Timeout:
		d.Why = "the timeout is at its ceiling"
	default:
		d.Retry = true
		d.Why = d.Strategy.String()
		return d
	}
	d.Exhausted, d.Delay, d.Timeout = true, 0, h.Timeout
	return d
}

// jittered is the delay after failed earlier failures of the class.
func jittered(b Budget, failed int, dice float64) time.Duration {
	delay := float64(b.Delay) * math.Pow(max(b.Factor, 1), float64(failed))
	if b.MaxDelay > 0 {
		delay = min(delay, float64(b.MaxDelay))
	}
	delay *= 1 - b.Jitter + 2*b.Jitter*dice
	return time.Duration(min(delay, float64(math.MaxInt64/4)))
}

func longer(b Budget, now time.Duration) time.Duration {
	next := float64(now) * max(b.TimeoutFactor, 1)
	if b.TimeoutCeiling > 0 {
		next = min(next, float64(b.TimeoutCeiling))
	}
	return time.Duration(min(next, float64(math.MaxInt64/4)))
}

// Failed returns the history after d was decided and carried out: one more failure of its class, and its timeout in force.
func (h History) Failed(d Decision) History {
	h.Failures[d.Class]++
	h.Timeout = d.Timeout
	return h
}
