package cli

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// output is where an action's events go: its bytes to the streams of the same name, or all as JSON lines. When there is nobody
// to read them any more, the action is told to end, as a pipe would tell it.
type output struct {
	x      *execution
	broken error

	mu   sync.Mutex
	kill *time.Timer
}

// event hands on one event. It never fails: a broken output is remembered, and the rest is dropped until the action ends.
func (o *output) event(ev *agentv1.ActionEvent) error {
	if o.broken != nil {
		return nil //nolint:nilerr // remembered
	}
	if err := o.write(ev); err != nil {
		o.breakOff(err)
	}
	return nil
}

func (o *output) write(ev *agentv1.ActionEvent) error {
	p := o.x.a.printer()
	return p.Line(ev, func() error {
		switch e := ev.GetEvent().(type) {
		case *agentv1.ActionEvent_Output:
			_, err := o.writer(e.Output.GetChannel()).Write(e.Output.GetData())
			return err
		case *agentv1.ActionEvent_Gap:
			o.x.note("%d bytes of %s from offset %d are lost: they are no longer kept",
				e.Gap.GetLength(), render.Enum(e.Gap.GetChannel().String(), "CHANNEL_"), e.Gap.GetOffset())
		}
		return nil
	})
}

func (o *output) writer(c agentv1.Channel) io.Writer {
	if c == agentv1.Channel_CHANNEL_STDERR {
		return o.x.a.env.Err
	}
	return o.x.a.env.Out
}

func (o *output) breakOff(err error) {
	o.broken = err
	if !o.x.interrupts {
		o.x.leave(errLeft)
		return
	}
	ctx := o.x.ctx
	o.x.interrupt(ctx, agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kill = time.AfterFunc(brokenKill, func() { o.x.interrupt(ctx, agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL) })
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kill != nil {
		o.kill.Stop()
	}
}

// code is the exit code that an observation stands for.
func (o *output) code(obs *agentv1.Observation) (int, error) {
	if errors.Is(o.broken, syscall.EPIPE) {
		return codeSignal + int(syscall.SIGPIPE), nil
	}
	if o.broken != nil {
		return 0, rterr.Wrap(rterr.Internal, "write the output", o.broken)
	}
	switch obs.GetOutcome() {
	case agentv1.Outcome_OUTCOME_FAILED, agentv1.Outcome_OUTCOME_LOST:
		return o.failed(obs)
	case agentv1.Outcome_OUTCOME_TIMED_OUT:
		o.x.note("action %s reached its timeout", obs.GetActionId())
		return codeTimedOut, nil
	}
	if obs.ExitCode != nil {
		return int(obs.GetExitCode()), nil
	}
	if n := signalOf(obs.GetPayload()); n != 0 {
		return codeSignal + int(n), nil
	}
	if obs.GetOutcome() == agentv1.Outcome_OUTCOME_INTERRUPTED {
		return codeSignal + int(syscall.SIGINT), nil
	}
	return 0, rterr.New(rterr.Internal, "run action "+obs.GetActionId(), "its observation has neither exit code nor signal").
		WithRan(rterr.RanYes)
}

// failed is an action that did not run, or of which nothing is known. As a shell does, 127 stands for a program that is not
// there and 126 for one that may not run.
func (o *output) failed(obs *agentv1.Observation) (int, error) {
	err := rterr.Wrap(rterr.Internal, "run action "+obs.GetActionId(), rtwire.FromDetail(obs.GetError()))
	if obs.GetError() == nil {
		err = rterr.New(rterr.Internal, "run action "+obs.GetActionId(), "its outcome is %s", render.Enum(obs.GetOutcome().String(), "OUTCOME_"))
	}
	switch {
	case obs.GetOutcome() == agentv1.Outcome_OUTCOME_LOST:
		return 0, rterr.From(err).WithRan(rterr.RanUnknown)
	case rterr.Is(err, rterr.NotFound):
		o.x.a.say(noSuch(err))
		return codeNoSuch, nil
	case rterr.Is(err, rterr.PermissionDenied):
		o.x.a.say(err)
		return codeCannot, nil
	default:
		return 0, err
	}
}

// noSuch gives a program or folder that is not there the remedy that fits it.
func noSuch(err error) error {
	e := *rterr.From(err)
	return e.WithRemedy("check the name, and that it is installed in the sandbox; no shell is involved: for shell words use `sh -c`")
}

// signalOf is the signal that ended a process, 0 for none.
func signalOf(payload []byte) syscall.Signal {
	var p action.ProcessObservation
	if json.Unmarshal(payload, &p) != nil {
		return 0
	}
	return unix.SignalNum(p.Signal)
}
