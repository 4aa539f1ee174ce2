package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Kind is a kind of action that is done outside of this package (Config.Kinds). Record, attach, output, timeout and interrupts are
// the engine's all the same. Methods may be called from any goroutine. A Kind that is an io.Closer too is closed by Engine.Close,
// after its last task.
type Kind interface {
	// Prepare decodes and checks a payload. It does not block, and nothing of the action happens: what it refuses, with
	// InvalidArgument naming the field, is not recorded. payload is read-only.
	Prepare(payload []byte) (Task, error)
}

// KindFunc is a Kind that is only its Prepare.
type KindFunc func(payload []byte) (Task, error)

// Prepare calls f.
func (f KindFunc) Prepare(payload []byte) (Task, error) { return f(payload) }

// Task does a prepared action, once, on a goroutine of the engine's; tasks run side by side. It returns the payload of the
// observation, one JSON object.
//
// ctx ends by an interrupt, by the action's timeout, or as the engine closes; context.Cause tells which (ErrInterrupted, ErrTimedOut,
// ErrClosing). Then the task has 15 s to return what there is; one that does not is given up, as LOST.
//
// The error tells the outcome. nil: COMPLETED, whatever became of ctx. Any of the causes, or ctx.Err(): INTERRUPTED or TIMED_OUT, with
// the payload, or LOST. Any other: FAILED, without the payload; unless it says so (rterr.Error.Ran), it is unknown whether it ran. A
// panic is such an error.
type Task func(ctx context.Context, call *Call) (payload []byte, err error)

// Why a task's context has ended.
var (
	ErrInterrupted = errors.New("the action was interrupted")
	ErrTimedOut    = errors.New("the action's timeout has passed")
	ErrClosing     = errors.New("the agent is stopping")
)

// Call is an action in the eyes of its task. It is the task's alone, and of no use when that has returned.
type Call struct {
	// ID and Timeout of the action; 0 is none.
	ID      string
	Timeout time.Duration
	// Output is the STDOUT channel, which is there from the first write on. A write does not block and does not fail. Safe for use
	// by several goroutines.
	Output io.Writer
	// Interrupts gives the level of each interrupt, the first one's too. What is not read in time is left out, the stronger ones last.
	Interrupts <-chan agentv1.InterruptLevel

	cwd func() string
}

// Cwd is Engine.Cwd.
func (c *Call) Cwd() string { return c.cwd() }

// Cwd returns the working directory that the shell has reported last: the workspace, before it has. The folder may be gone.
func (e *Engine) Cwd() string { return e.shell.cwd() }

// refusal is an error of Prepare.
func refusal(err error) error {
	e := *rterr.From(err)
	if e.Reason == rterr.Internal {
		e.Reason = rterr.InvalidArgument
	}
	return e.WithRan(rterr.RanNo)
}

// doing runs one action of a Kind. It is the action's controller.
type doing struct {
	e          *Engine
	live       *live
	task       Task
	output     *output
	interrupts chan agentv1.InterruptLevel

	mu sync.Mutex
	// stop is nil before the task begins, and cause why it shall not.
	stop  context.CancelCauseFunc
	cause error
	// patience runs from when ctx has ended to when the action is given up.
	timeout, patience *time.Timer
	ended             bool
}

func (e *Engine) kindJob(task Task) job {
	d := &doing{e: e, task: task, interrupts: make(chan agentv1.InterruptLevel, 2*int(agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL))}
	return job{by: d, reserve: func(l *live) (place, error) {
		d.live = l
		d.output = &output{e: e, live: l}
		if n := e.doings.Add(1); n > maxQueue {
			e.doings.Add(-1)
			return place{}, rterr.New(rterr.LimitExceeded, "", "%d actions are running", n-1).WithRan(rterr.RanNo)
		}
		return place{runs: true, begin: d.begin, retract: func() { e.doings.Add(-1) }}, nil
	}}
}

func (d *doing) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause != nil {
		d.ended = true
		d.e.doings.Add(-1)
		d.neverBegan(d.cause)
		return
	}
	ctx, stop := context.WithCancelCause(context.Background())
	d.stop = stop
	if d.live.timeout > 0 {
		d.timeout = time.AfterFunc(d.live.timeout, func() { d.end(ErrTimedOut) })
	}
	d.e.work.Add(1)
	go d.work(ctx)
}

func (d *doing) neverBegan(cause error) {
	if errors.Is(cause, ErrClosing) {
		d.e.complete(d.live, result{outcome: agentv1.Outcome_OUTCOME_LOST, err: detailOf(rterr.New(rterr.OutcomeUnknown, "",
			"the agent was stopped before the action began").WithRan(rterr.RanNo))})
		return
	}
	d.e.withdraw(d.live, nil)
}

func (d *doing) work(ctx context.Context) {
	defer d.e.work.Done()
	defer d.e.doings.Add(-1)
	defer d.stop(nil)
	payload, err := d.guarded(ctx)
	d.done(resultOf(payload, err, context.Cause(ctx)))
}

// guarded is the task without its panics: one action's must not be the end of all others.
func (d *doing) guarded(ctx context.Context) (payload []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.e.log.Error("an action has panicked", "action", d.live.id, "panic", p, "stack", string(debug.Stack()))
			payload, err = nil, rterr.New(rterr.Internal, "", "panic: %v", p).WithRan(rterr.RanUnknown)
		}
	}()
	return d.task(ctx, &Call{ID: d.live.id, Timeout: d.live.timeout, Output: d.output, Interrupts: d.interrupts, cwd: d.e.Cwd})
}

// done makes the action done, unless it was given up.
func (d *doing) done(r result) {
	d.mu.Lock()
	already := d.ended
	d.ended = true
	for _, t := range []*time.Timer{d.timeout, d.patience} {
		if t != nil {
			t.Stop()
		}
	}
	d.mu.Unlock()
	if already {
		d.e.log.Warn("an action that was given up has ended", "action", d.live.id)
		return
	}
	d.output.close()
	d.e.complete(d.live, r)
}

// resultOf is the outcome by the rules of Task.
func resultOf(payload []byte, err, cause error) result {
	if err != nil && cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = cause
	}
	switch {
	case err == nil:
		return result{outcome: agentv1.Outcome_OUTCOME_COMPLETED, payload: payload}
	case errors.Is(err, ErrTimedOut):
		return result{outcome: agentv1.Outcome_OUTCOME_TIMED_OUT, payload: payload}
	case errors.Is(err, ErrInterrupted):
		return result{outcome: agentv1.Outcome_OUTCOME_INTERRUPTED, payload: payload}
	case errors.Is(err, ErrClosing):
		return result{outcome: agentv1.Outcome_OUTCOME_LOST, err: detailOf(rterr.New(rterr.OutcomeUnknown, "",
			"the agent was stopped while the action ran").WithRan(rterr.RanUnknown))}
	}
	e := *rterr.From(err)
	if e.Ran == rterr.RanUnspecified {
		e.Ran = rterr.RanUnknown
	}
	return result{outcome: agentv1.Outcome_OUTCOME_FAILED, err: detailOf(&e)}
}

// end ends the task's context, or keeps it from beginning; ended is false if it is over. The first cause counts.
func (d *doing) end(cause error) (ending bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return false
	}
	if d.cause == nil {
		d.cause = cause
		if d.stop != nil {
			d.stop(cause)
			d.patience = time.AfterFunc(waitTask, d.giveUp)
		}
	}
	return true
}

// giveUp makes an action done whose task does not end: it may hang in the kernel. Close waits for it still.
func (d *doing) giveUp() {
	d.mu.Lock()
	cause := d.cause
	d.mu.Unlock()
	d.e.log.Error("an action does not end and is given up", "action", d.live.id, "limit", waitTask)
	d.done(result{outcome: agentv1.Outcome_OUTCOME_LOST, err: detailOf(rterr.New(rterr.OutcomeUnknown, "",
		"%v, and it did not end within %v", cause, waitTask).WithRan(rterr.RanUnknown))})
}

func (d *doing) interrupt(l *live, level agentv1.InterruptLevel) (bool, error) {
	l.interrupted(level)
	if !d.end(ErrInterrupted) {
		return false, nil
	}
	select {
	case d.interrupts <- level:
	default: // Nobody reads them.
	}
	return true, nil
}

func (d *doing) resize(*live, uint16, uint16) error {
	return rterr.New(rterr.IllegalState, "", "the action has no terminal")
}

func (d *doing) cut(*live) { d.end(ErrClosing) }

// output is a channel that is there once it is written to.
type output struct {
	e    *Engine
	live *live

	mu     sync.Mutex
	to     *spool.Channel
	closed bool
}

// Write takes all of p, and drops it once the action is done.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed || len(p) == 0:
		return len(p), nil
	case o.to == nil:
		const name = agentv1.Channel_CHANNEL_STDOUT
		o.to = o.e.spool.Channel(spool.Key{ID: o.live.id, Channel: int32(name)}, &o.live.wake)
		o.live.open(name, o.to)
	}
	return o.to.Write(p)
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// closeKinds closes those kinds that have something to close.
func (e *Engine) closeKinds() error {
	var errs []error
	for name, k := range e.cfg.Kinds {
		if c, ok := k.(io.Closer); ok {
			if err := c.Close(); err != nil {
				errs = append(errs, fmt.Errorf("kind %s: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}
