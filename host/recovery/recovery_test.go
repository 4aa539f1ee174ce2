package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/host/recovery"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fail(r rterr.Reason) *rterr.Error { return rterr.New(r, "call", "as the test asks") }

// plain is the default table without chance.
func plain() policy.Table {
	table := policy.Default()
	rule := table[policy.Network]
	rule.Budget.Jitter = 0
	table[policy.Network] = rule
	return table
}

// journal writes down what a Recoverer reports.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) report(a recovery.Attempt) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a.Err == nil {
		j.lines = append(j.lines, fmt.Sprintf("%d recovered at %s", a.Number, a.Elapsed))
		return
	}
	j.lines = append(j.lines, fmt.Sprintf("%d %s %s retry=%v delay=%s at %s", a.Number, a.Decision.Class, a.Decision.Strategy, a.Decision.Retry, a.Decision.Delay, a.Elapsed))
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

func TestNetworkBacksOffAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		r := recovery.New(plain(), recovery.Hooks{Report: j.report})
		calls := 0
		err := r.Do(t.Context(), policy.Op{Name: "renew", Idempotent: true}, func(context.Context) error {
			calls++
			switch calls {
			case 1, 2:
				return fail(rterr.Network)
			case 3:
				return fail(rterr.RateLimited).WithRetryAfter(5 * time.Second)
			default:
				return nil
			}
		})
		want := "1 network backoff retry=true delay=100ms at 0s\n2 network backoff retry=true delay=200ms at 100ms\n" +
			"3 network backoff retry=true delay=5s at 300ms\n4 recovered at 5.3s"
		if err != nil || j.text() != want {
			t.Errorf("%v\n%s\nwant\n%s", err, j.text(), want)
		}
	})
}

func TestNetworkIsGivenUpWithinItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var degraded []string
		r := recovery.New(plain(), recovery.Hooks{Degrade: func(op policy.Op, err error) { degraded = append(degraded, op.Backend+": "+err.Error()) }})
		calls := 0
		began := time.Now()
		err := r.Do(t.Context(), policy.Op{Name: "list", Backend: "b", Idempotent: true}, func(context.Context) error {
			calls++
			return fail(rterr.Network)
		})
		d, ok := recovery.DecisionOf(err)
		if !ok || !d.Exhausted || calls != 7 || rterr.From(err).Evidence["attempts"] != "7" || !rterr.Is(err, rterr.Network) {
			t.Errorf("%d calls, %v, %+v", calls, err, d)
		}
		if took := time.Since(began); took != 6300*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if len(degraded) != 1 || !strings.HasPrefix(degraded[0], "b: ") {
			t.Errorf("degraded %q", degraded)
		}
	})
}

func TestTimeoutsGrowUpToTheCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recovery.New(plain(), recovery.Hooks{})
		var given []time.Duration
		err := r.Do(t.Context(), policy.Op{Name: "pause", Idempotent: true, Timeout: 90 * time.Second}, func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			given = append(given, time.Until(deadline))
			<-ctx.Done()
			return ctx.Err()
		})
		if got := fmt.Sprint(given); got != "[1m30s 3m0s 5m0s]" {
			t.Errorf("timeouts %s", got)
		}
		if d, _ := recovery.DecisionOf(err); !d.Exhausted || d.Why != "the timeout is at its ceiling" || !rterr.Is(err, rterr.Timeout) {
			t.Errorf("%v, %+v", err, d)
		}
	})
}

func TestAnAttemptCutByItsTimeoutIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recovery.New(policy.Table{}, recovery.Hooks{})
		err := r.Do(t.Context(), policy.Op{Name: "pause", Timeout: time.Second}, func(ctx context.Context) error {
			<-ctx.Done()
			return rterr.Wrap(rterr.Network, "call", context.Canceled) // as a client sees its stream torn down
		})
		if !rterr.Is(err, rterr.Timeout) || !strings.Contains(err.Error(), "within 1s") {
			t.Errorf("%v", err)
		}
	})
}

func TestCredentialIsReadAgainOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refreshes atomic.Int32
		var good atomic.Bool
		r := recovery.New(plain(), recovery.Hooks{Refresh: func(context.Context, policy.Op) error {
			time.Sleep(time.Second)
			refreshes.Add(1)
			good.Store(true)
			return nil
		}})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				err := r.Do(t.Context(), policy.Op{Name: "connect", Backend: "b", Idempotent: true}, func(context.Context) error {
					if !good.Load() {
						return fail(rterr.Unauthenticated)
					}
					return nil
				})
				if err != nil {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if refreshes.Load() != 1 {
			t.Errorf("%d refreshes", refreshes.Load())
		}
	})
}

func TestCredentialThatStaysBad(t *testing.T) {
	for name, c := range map[string]struct {
		refresh func(context.Context, policy.Op) error
		calls   int
		why     string
	}{
		"refused again":   {func(context.Context, policy.Op) error { return nil }, 2, "all retries are used up"},
		"cannot be read":  {func(context.Context, policy.Op) error { return errors.New("no such file") }, 1, "the credential could not be read again"},
		"nothing to read": {nil, 1, "there is no credential to read again"},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := recovery.New(plain(), recovery.Hooks{Refresh: c.refresh}).
				Do(t.Context(), policy.Op{Name: "connect", Idempotent: true}, func(context.Context) error {
					calls++
					return fail(rterr.Unauthenticated)
				})
			d, _ := recovery.DecisionOf(err)
			if calls != c.calls || d.Why != c.why || !rterr.Is(err, rterr.Unauthenticated) {
				t.Errorf("%d calls, %v, %+v", calls, err, d)
			}
			if c.why == "the credential could not be read again" && rterr.From(err).Evidence["refresh_error"] != "no such file" {
				t.Errorf("evidence %v", rterr.From(err).Evidence)
			}
		})
	}
}

func TestWhatMayHaveRunIsNotRunAgain(t *testing.T) {
	for _, ran := range []rterr.Ran{rterr.RanUnspecified, rterr.RanYes, rterr.RanUnknown} {
		for _, r := range rterr.Reasons() {
			calls := 0
			err := recovery.New(plain(), recovery.Hooks{Refresh: func(context.Context, policy.Op) error { return nil }}).
				Do(t.Context(), policy.Op{Name: "execute"}, func(context.Context) error { calls++; return fail(r).WithRan(ran) })
			if calls != 1 || !rterr.Is(err, r) || rterr.From(err).Ran != ran {
				t.Errorf("%s, ran %s: %d calls, %v", r, ran, calls, err)
			}
		}
	}
}

func TestLostSandboxComesBackToTheCaller(t *testing.T) {
	err := recovery.New(plain(), recovery.Hooks{}).Do(t.Context(), policy.Op{Name: "renew", Idempotent: true},
		func(context.Context) error { return fail(rterr.SandboxGone) })
	d, ok := recovery.DecisionOf(err)
	if !ok || d.Class != policy.SandboxLost || d.Strategy != policy.Locate || policy.OnLost(policy.Recreate, err) != policy.LostRecreate {
		t.Errorf("%v, %+v", err, d)
	}
}

func TestRollback(t *testing.T) {
	for _, can := range []bool{true, false} {
		rolled := 0
		hooks := recovery.Hooks{Rollback: func(context.Context, policy.Op) error { rolled++; return errors.New("half way") }}
		err := recovery.New(plain(), hooks).Do(t.Context(), policy.Op{Name: "x", Idempotent: true, CanRollback: can},
			func(context.Context) error { return fail(rterr.InvalidArgument) })
		if (rolled == 1) != can || !rterr.Is(err, rterr.InvalidArgument) || (rterr.From(err).Evidence["rollback_error"] == "half way") != can {
			t.Errorf("can=%v: %d rollbacks, %v", can, rolled, err)
		}
	}
}

func TestCancelEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		began := time.Now()
		err := recovery.New(plain(), recovery.Hooks{}).Do(ctx, policy.Op{Name: "list", Idempotent: true}, func(context.Context) error {
			calls++
			time.AfterFunc(50*time.Millisecond, cancel)
			return fail(rterr.Network)
		})
		if calls != 1 || !rterr.Is(err, rterr.Cancelled) || !errors.Is(err, context.Canceled) || time.Since(began) != 50*time.Millisecond {
			t.Errorf("%d calls, %v after %s", calls, err, time.Since(began))
		}
		if rterr.From(err).Evidence["last_error"] == "" {
			t.Error("the last failure is not told")
		}
	})
}

func TestWhatAnAttemptSaysCountsThoughTheCallerHasGone(t *testing.T) {
	for name, last := range map[string]error{"success": nil, "failure": fail(rterr.OutcomeUnknown).WithRan(rterr.RanUnknown)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				calls := 0
				err := recovery.New(plain(), recovery.Hooks{}).Do(ctx, policy.Op{Name: "connect", Idempotent: true}, func(context.Context) error {
					calls++
					if calls == 1 {
						return fail(rterr.Network)
					}
					cancel()
					return last
				})
				if calls != 2 || (last == nil) != (err == nil) || (err != nil && !errors.Is(err, last)) {
					t.Errorf("%d calls, %v", calls, err)
				}
			})
		})
	}
}

func TestNoRetryBeyondTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		calls := 0
		began := time.Now()
		err := recovery.New(plain(), recovery.Hooks{}).Do(ctx, policy.Op{Name: "list", Idempotent: true}, func(context.Context) error {
			calls++
			return fail(rterr.Network)
		})
		// The second retry would come at 300 ms: the caller is told at once, with the real reason.
		if calls != 2 || !rterr.Is(err, rterr.Network) || time.Since(began) != 100*time.Millisecond {
			t.Errorf("%d calls, %v after %s", calls, err, time.Since(began))
		}
	})
}

func BenchmarkSuccess(b *testing.B) {
	r := recovery.New(policy.Default(), recovery.Hooks{})
	op := policy.Op{Name: "execute"}
	for b.Loop() {
		_ = r.Do(b.Context(), op, func(context.Context) error { return nil })
	}
}
