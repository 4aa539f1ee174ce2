package policy_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"pgregory.net/rapid"
)

func TestEveryReasonHasAClass(t *testing.T) {
	want := map[rterr.Reason]policy.Class{
		rterr.Network: policy.Network, rterr.Unavailable: policy.Network, rterr.PluginUnavailable: policy.Network,
		rterr.RateLimited: policy.Network, rterr.Timeout: policy.Timeout, rterr.Unauthenticated: policy.Authentication,
		rterr.SandboxGone: policy.SandboxLost, rterr.SandboxUnreachable: policy.SandboxLost, rterr.QuotaExceeded: policy.Exhausted,
		rterr.OutcomeUnknown: policy.Unknown, rterr.Cancelled: policy.Cancelled,
	}
	for _, r := range rterr.Reasons() {
		class, ok := want[r]
		if !ok {
			class = policy.Logic
		}
		if got := policy.Classify(rterr.New(r, "x", "")); got != class {
			t.Errorf("%s is %s, want %s", r, got, class)
		}
	}
}

func TestTheErrorsOwnWordCounts(t *testing.T) {
	busy := rterr.New(rterr.Provider, "x", "503")
	busy.Retryable = true
	if got := policy.Classify(busy); got != policy.Network {
		t.Errorf("a provider's passing error is %s", got)
	}
	final := rterr.New(rterr.Network, "x", "no such host")
	final.Retryable = false
	if got := policy.Classify(final); got != policy.Logic {
		t.Errorf("a final network error is %s", got)
	}
	if policy.Classify(nil) != policy.ClassUnspecified || policy.Classify(context.DeadlineExceeded) != policy.Timeout ||
		policy.Classify(errors.New("?")) != policy.Logic {
		t.Error("errors of others are misread")
	}
}

func TestDecideTable(t *testing.T) {
	op := policy.Op{Name: "renew", Idempotent: true, Timeout: time.Second}
	failures := func(c policy.Class, n int) (h policy.History) {
		h.Attempts, h.Timeout, h.Dice = n+1, time.Second, 0.5
		h.Failures[c] = n
		return h
	}
	withElapsed := func(h policy.History, elapsed, left time.Duration) policy.History {
		h.Elapsed, h.Left = elapsed, left
		return h
	}
	withTimeout := func(h policy.History, d time.Duration) policy.History { h.Timeout = d; return h }
	for name, c := range map[string]struct {
		op   policy.Op
		h    policy.History
		err  error
		want policy.Decision
	}{
		"network first": {op, failures(policy.Network, 0), rterr.New(rterr.Network, "", ""),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Retry: true, Delay: 100 * time.Millisecond, Timeout: time.Second, Why: "backoff"}},
		"network third": {op, failures(policy.Network, 2), rterr.New(rterr.Network, "", ""),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Retry: true, Delay: 400 * time.Millisecond, Timeout: time.Second, Why: "backoff"}},
		"retry after": {op, failures(policy.Network, 0), rterr.New(rterr.RateLimited, "", "").WithRetryAfter(7 * time.Second),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Retry: true, Delay: 7 * time.Second, Timeout: time.Second, Why: "backoff"}},
		"retry after beyond the budget": {op, failures(policy.Network, 0), rterr.New(rterr.RateLimited, "", "").WithRetryAfter(2 * time.Minute),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Exhausted: true, Timeout: time.Second, Why: "the time for retries is used up"}},
		"network used up": {op, failures(policy.Network, 6), rterr.New(rterr.Network, "", ""),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Exhausted: true, Timeout: time.Second, Why: "all retries are used up"}},
		"network too late": {op, withElapsed(failures(policy.Network, 1), time.Minute, 0), rterr.New(rterr.Network, "", ""),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Exhausted: true, Timeout: time.Second, Why: "the time for retries is used up"}},
		"deadline before the retry": {op, withElapsed(failures(policy.Network, 1), time.Second, 50*time.Millisecond), rterr.New(rterr.Network, "", ""),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Exhausted: true, Timeout: time.Second, Why: "the deadline would pass before the retry"}},
		"timeout grows": {op, failures(policy.Timeout, 0), rterr.New(rterr.Timeout, "", ""),
			policy.Decision{Class: policy.Timeout, Strategy: policy.LongerTimeout, Retry: true, Timeout: 2 * time.Second, Why: "longer_timeout"}},
		"timeout up to the ceiling": {op, withTimeout(failures(policy.Timeout, 0), 4*time.Minute), rterr.New(rterr.Timeout, "", ""),
			policy.Decision{Class: policy.Timeout, Strategy: policy.LongerTimeout, Retry: true, Timeout: 5 * time.Minute, Why: "longer_timeout"}},
		"timeout at the ceiling": {op, withTimeout(failures(policy.Timeout, 1), 5*time.Minute), rterr.New(rterr.Timeout, "", ""),
			policy.Decision{Class: policy.Timeout, Strategy: policy.LongerTimeout, Exhausted: true, Timeout: 5 * time.Minute, Why: "the timeout is at its ceiling"}},
		"credential once": {op, failures(policy.Authentication, 0), rterr.New(rterr.Unauthenticated, "", ""),
			policy.Decision{Class: policy.Authentication, Strategy: policy.RefreshCredential, Retry: true, Timeout: time.Second, Why: "refresh_credential"}},
		"credential not twice": {op, failures(policy.Authentication, 1), rterr.New(rterr.Unauthenticated, "", ""),
			policy.Decision{Class: policy.Authentication, Strategy: policy.RefreshCredential, Exhausted: true, Timeout: time.Second, Why: "all retries are used up"}},
		"sandbox lost": {op, failures(policy.SandboxLost, 0), rterr.New(rterr.SandboxGone, "", ""),
			policy.Decision{Class: policy.SandboxLost, Strategy: policy.Locate, Timeout: time.Second, Why: "for the caller to decide"}},
		"logic": {op, failures(policy.Logic, 0), rterr.New(rterr.InvalidArgument, "", ""),
			policy.Decision{Class: policy.Logic, Strategy: policy.GiveBack, Timeout: time.Second, Why: "the same request fails again"}},
		"logic with checkpoints": {policy.Op{CanRollback: true}, failures(policy.Logic, 0), rterr.New(rterr.Provider, "", ""),
			policy.Decision{Class: policy.Logic, Strategy: policy.Rollback, Timeout: time.Second, Why: "the same request fails again"}},
		"quota": {op, failures(policy.Exhausted, 0), rterr.New(rterr.QuotaExceeded, "", ""),
			policy.Decision{Class: policy.Exhausted, Strategy: policy.Degrade, Exhausted: true, Timeout: time.Second, Why: "the backend has nothing left to give"}},
		"outcome unknown": {op, failures(policy.Unknown, 0), rterr.New(rterr.OutcomeUnknown, "", ""),
			policy.Decision{Class: policy.Unknown, Strategy: policy.GiveBack, Timeout: time.Second, Why: "for the caller to decide"}},
		"cancelled": {op, failures(policy.Cancelled, 0), context.Canceled,
			policy.Decision{Class: policy.Cancelled, Strategy: policy.GiveBack, Timeout: time.Second, Why: "for the caller to decide"}},
		"may have run": {policy.Op{}, failures(policy.Network, 0), rterr.New(rterr.Network, "", ""),
			policy.Decision{Class: policy.Network, Strategy: policy.GiveBack, Timeout: time.Second, Why: "it may have run, and must not run twice"}},
		"did not run": {policy.Op{}, failures(policy.Network, 0), rterr.New(rterr.Network, "", "").WithRan(rterr.RanNo),
			policy.Decision{Class: policy.Network, Strategy: policy.Backoff, Retry: true, Delay: 100 * time.Millisecond, Timeout: time.Second, Why: "backoff"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := policy.Decide(policy.Default(), c.op, c.h, c.err); got != c.want {
				t.Errorf("decided %+v,\n want   %+v", got, c.want)
			}
		})
	}
}

func TestAClassWithoutARuleIsGivenBack(t *testing.T) {
	d := policy.Decide(policy.Table{}, policy.Op{Idempotent: true}, policy.History{Attempts: 1}, rterr.New(rterr.Network, "", ""))
	if d.Retry || d.Strategy != policy.GiveBack {
		t.Errorf("decided %+v", d)
	}
}

func TestOnLost(t *testing.T) {
	gone, away, other := rterr.New(rterr.SandboxGone, "", ""), rterr.New(rterr.SandboxUnreachable, "", ""), rterr.New(rterr.Integrity, "", "")
	for _, c := range []struct {
		choice policy.OnDisconnect
		err    error
		want   policy.Lost
	}{
		{policy.Stay, gone, policy.LostDisconnect}, {policy.Recreate, gone, policy.LostRecreate},
		{policy.Stay, away, policy.LostAdopt}, {policy.Recreate, away, policy.LostAdopt},
		{policy.Recreate, other, policy.LostDisconnect}, {policy.Stay, nil, policy.LostUnspecified},
	} {
		if got := policy.OnLost(c.choice, c.err); got != c.want {
			t.Errorf("%s after %v: %s, want %s", c.choice, c.err, got, c.want)
		}
	}
}

// Whatever fails in whatever order: the budgets hold, and what may have run is not run again.
func TestPropertyBudgetsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := policy.Op{Name: "x", Idempotent: rapid.Bool().Draw(t, "idempotent"), CanRollback: rapid.Bool().Draw(t, "rollback")}
		table := policy.Default()
		h := policy.History{Timeout: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "timeout"))}
		retries := map[policy.Class]int{}
		for {
			h.Attempts++
			h.Elapsed += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "took"))
			h.Dice = rapid.Float64Range(0, 1).Draw(t, "dice")
			err := rterr.New(rapid.SampledFrom(rterr.Reasons()).Draw(t, "reason"), "x", "")
			err.Ran = rapid.SampledFrom([]rterr.Ran{rterr.RanUnspecified, rterr.RanNo, rterr.RanYes, rterr.RanUnknown}).Draw(t, "ran")
			err.RetryAfter = time.Duration(rapid.Int64Range(0, int64(90*time.Second)).Draw(t, "retry after"))
			d := policy.Decide(table, op, h, err)
			if !d.Retry {
				return
			}
			if !op.Idempotent && err.Ran != rterr.RanNo {
				t.Fatalf("retries what may have run: %v after %v", d, err)
			}
			b := table[d.Class].Budget
			retries[d.Class]++
			if retries[d.Class] > b.Retries || h.Attempts >= policy.MaxAttempts {
				t.Fatalf("%s: retry %d of %d, attempt %d", d.Class, retries[d.Class], b.Retries, h.Attempts)
			}
			if b.Elapsed > 0 && h.Elapsed+d.Delay > b.Elapsed {
				t.Fatalf("%s: retry after %s, the budget is %s", d.Class, h.Elapsed+d.Delay, b.Elapsed)
			}
			if d.Delay < 0 || (d.Class == policy.Network && d.Delay < err.RetryAfter) || d.Timeout < h.Timeout {
				t.Fatalf("%s: %+v after %s", d.Class, d, err.RetryAfter)
			}
			if d.Class == policy.Timeout && d.Timeout > max(b.TimeoutCeiling, h.Timeout) {
				t.Fatalf("timeout %s over the ceiling", d.Timeout)
			}
			h = h.Failed(d)
			h.Elapsed += d.Delay
		}
	})
}
