// Package recovery carries out what host/recovery/policy decides: it wraps an operation, and retries it, refreshes credentials,
// rolls back, degrades and reports as the table says. Retries run on failsafe-go; the decisions are the policy's alone.
//
// Every call from the host to a plugin or an agent goes through a Recoverer. It keeps nothing between operations but credential
// refreshes that are under way.
package recovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"golang.org/x/sync/singleflight"

	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The waits of this package.
const (
	// refreshLimit bounds one refresh of a credential, whoever waits for it.
	refreshLimit = 30 * time.Second
	// cleanupLimit bounds a rollback after the caller's context has ended.
	cleanupLimit = 30 * time.Second
)

// Attempt is the report of one failed attempt, or of the success that ended a row of them.
type Attempt struct {
	Op policy.Op
	// Number of the attempt, counted from 1.
	Number int
	// Decision is what is done about the failure; zero for the success.
	Decision policy.Decision
	// Err is the failure, nil for the success.
	Err error
	// Elapsed since the operation began.
	Elapsed time.Duration
}

// Hooks are what the host lends to a Recoverer. Each may be nil; all may be called from any goroutine.
type Hooks struct {
	// Refresh reads the credentials of op.Backend again and configures the backend with them. Operations that fail at the same
	// time share one call per backend.
	Refresh func(ctx context.Context, op policy.Op) error
	// Rollback returns the state to before op.
	Rollback func(ctx context.Context, op policy.Op) error
	// Degrade is told that op.Backend has nothing left to give, or that the retries of op are used up. It must not block.
	Degrade func(op policy.Op, err error)
	// Report is told of every failed attempt, and of the success after failures. It must not block.
	Report func(Attempt)
}

// Recoverer runs operations under a table of rules. Safe for use by many goroutines.
type Recoverer struct {
	table     policy.Table
	hooks     Hooks
	refreshes singleflight.Group
}

// New returns a Recoverer. The table is not to be changed afterwards.
func New(table policy.Table, hooks Hooks) *Recoverer {
	return &Recoverer{table: table, hooks: hooks}
}

// Failure is the error of an operation that was given up. errors.As reaches it, and through it the *rterr.Error of the last
// attempt.
type Failure struct {
	// Decision is the last one: its class and strategy say what the caller may do (policy.OnLost for a lost sandbox).
	Decision policy.Decision
	// Attempts is how often it was tried, Elapsed how long it took in all.
	Attempts int
	Elapsed  time.Duration

	err error
}

// Error returns the text of the last attempt's error.
func (f *Failure) Error() string { return f.err.Error() }

// Unwrap returns the last attempt's error.
func (f *Failure) Unwrap() error { return f.err }

// DecisionOf returns the decision with which Do gave up; false if err is not from Do.
func DecisionOf(err error) (policy.Decision, bool) {
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		return policy.Decision{}, false
	}
	return f.Decision, true
}

// Do runs fn until it succeeds, or the policy gives up, or ctx ends. fn gets a context that carries the attempt's timeout. An
// error is a *Failure around fn's own error, with the number of attempts as evidence when there was more than one. When ctx ends
// between attempts, it is Cancelled or Timeout around the last one.
func (r *Recoverer) Do(ctx context.Context, op policy.Op, fn func(ctx context.Context) error) error {
	run := &run{r: r, op: op, fn: fn, began: time.Now()}
	run.history.Timeout = op.Timeout
	decision, err := run.attempt(ctx)
	if err == nil {
		return nil
	}
	if !decision.Retry {
		return run.give(ctx, decision, err)
	}
	return run.retry(ctx, decision, err)
}

// run is one operation on its way.
type run struct {
	r       *Recoverer
	op      policy.Op
	fn      func(ctx context.Context) error
	began   time.Time
	history policy.History
	// last is the latest failure, for when ctx ends during a delay.
	last error
}

// attempt tries once, and decides on a failure.
func (u *run) attempt(ctx context.Context) (policy.Decision, error) {
	u.history.Attempts++
	err := u.call(ctx)
	u.history.Elapsed = time.Since(u.began)
	if err == nil {
		if u.history.Attempts > 1 {
			u.report(policy.Decision{}, nil)
		}
		return policy.Decision{}, nil
	}
	u.last = err
	decision := u.decide(ctx, err)
	if decision.Retry && decision.Strategy == policy.RefreshCredential {
		decision, err = u.refresh(ctx, decision, err)
	}
	u.report(decision, err)
	u.history = u.history.Failed(decision)
	return decision, err
}

// call runs fn under the attempt's timeout. An attempt that its own timeout cut is a Timeout, whatever fn made of it, unless fn
// knows more than that it was cut.
func (u *run) call(ctx context.Context) error {
	if u.history.Timeout <= 0 {
		return u.fn(ctx)
	}
	own, cancel := context.WithTimeout(ctx, u.history.Timeout)
	defer cancel()
	err := u.fn(own)
	if err != nil && ctx.Err() == nil && own.Err() != nil && rterr.Is(err, rterr.Cancelled) {
		timeout := rterr.New(rterr.Timeout, u.op.Name, "no answer within %s", u.history.Timeout).WithCause(err)
		timeout.Ran = rterr.From(err).Ran
		return timeout
	}
	return err
}

func (u *run) decide(ctx context.Context, err error) policy.Decision {
	h := u.history
	h.Dice = rand.Float64()
	if deadline, ok := ctx.Deadline(); ok {
		h.Left = max(time.Until(deadline), 1)
	}
	d := policy.Decide(u.r.table, u.op, h, err)
	if ctx.Err() != nil && d.Retry {
		d.Retry, d.Delay, d.Why = false, 0, "the caller's context has ended"
	}
	return d
}

// refresh reads the credential again. Without a way to do so, or when that fails, there is no retry.
func (u *run) refresh(ctx context.Context, d policy.Decision, err error) (policy.Decision, error) {
	giveUp := func(why string) (policy.Decision, error) {
		d.Retry, d.Exhausted, d.Why = false, true, why
		return d, err
	}
	if u.r.hooks.Refresh == nil {
		return giveUp("there is no credential to read again")
	}
	done := u.r.refreshes.DoChan(u.op.Backend, func() (any, error) {
		// Shared by all who wait: one caller's cancellation must not fail the others.
		shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshLimit)
		defer cancel()
		return nil, u.r.hooks.Refresh(shared, u.op)
	})
	select {
	case <-ctx.Done():
		return giveUp("the caller's context has ended")
	case result := <-done:
		if result.Err == nil {
			return d, err
		}
		e := *rterr.From(err)
		err = e.With("refresh_error", result.Err.Error()).WithCause(err)
		return giveUp("the credential could not be read again")
	}
}

// retry goes on after the first failure, on failsafe-go: the first execution hands in that failure, the rest are attempts.
func (u *run) retry(ctx context.Context, first policy.Decision, firstErr error) error {
	retries := retrypolicy.NewBuilder[policy.Decision]().
		WithMaxAttempts(policy.MaxAttempts).
		ReturnLastFailure().
		AbortIf(func(d policy.Decision, err error) bool { return err != nil && !d.Retry }).
		WithDelayFunc(func(e failsafe.ExecutionAttempt[policy.Decision]) time.Duration { return e.LastResult().Delay }).
		Build()
	// What the attempts said counts, not what failsafe-go returns: it drops the result of an attempt during which ctx ended, a
	// success too.
	handedIn, decision, err := false, first, firstErr
	_, ended := failsafe.With(retries).WithContext(ctx).Get(func() (policy.Decision, error) {
		if handedIn {
			decision, err = u.attempt(ctx)
		}
		handedIn = true
		return decision, err
	})
	switch {
	case err == nil:
		return nil
	case decision.Retry:
		return u.abandon(ctx, ended)
	default:
		return u.give(ctx, decision, err)
	}
}

// abandon ends the operation because the retry that was decided on did not come about: ctx ended meanwhile.
func (u *run) abandon(ctx context.Context, ended error) error {
	e := rterr.From(rterr.Wrap(rterr.Cancelled, u.op.Name, ended))
	e.Ran = rterr.From(u.last).Ran
	err := e.With("last_error", u.last.Error()).WithCause(errors.Join(ended, u.last))
	return u.give(ctx, policy.Decision{Class: policy.Classify(err), Strategy: policy.GiveBack, Why: "the caller's context has ended"}, err)
}

// give ends the operation with err: rolls back or degrades where the decision says so.
func (u *run) give(ctx context.Context, d policy.Decision, err error) error {
	if d.Strategy == policy.Rollback && u.r.hooks.Rollback != nil {
		// Detached: a rollback is owed also to a caller who has gone.
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
		defer cancel()
		if rollbackErr := u.r.hooks.Rollback(detached, u.op); rollbackErr != nil {
			e := *rterr.From(err)
			err = e.With("rollback_error", rollbackErr.Error()).WithCause(err)
		}
	}
	if d.Exhausted && u.r.hooks.Degrade != nil {
		u.r.hooks.Degrade(u.op, err)
	}
	if u.history.Attempts > 1 {
		e := *rterr.From(err)
		err = e.With("attempts", strconv.Itoa(u.history.Attempts)).WithCause(err)
	}
	return &Failure{Decision: d, Attempts: u.history.Attempts, Elapsed: time.Since(u.began), err: err}
}

func (u *run) report(d policy.Decision, err error) {
	if u.r.hooks.Report != nil {
		u.r.hooks.Report(Attempt{Op: u.op, Number: u.history.Attempts, Decision: d, Err: err, Elapsed: u.history.Elapsed})
	}
}
