package workspace

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// maxOutput is the most of a program's output that is looked at.
const maxOutput = 4 << 20

// done is how an action ended.
type done struct {
	observation *agentv1.Observation
	stdout      []byte
	stderr      []byte
	// cut: there was more.
	cut bool
}

// code is the exit code, -1 if there is none.
func (d *done) code() int {
	if d.observation.ExitCode == nil {
		return -1
	}
	return int(d.observation.GetExitCode())
}

// said is what the program said last, for an error.
func (d *done) said() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(d.stderr), "\uFFFD"))
	if text == "" {
		text = strings.TrimSpace(strings.ToValidUTF8(string(d.stdout), "\uFFFD"))
	}
	const most = 2000
	if len(text) > most {
		text = strings.ToValidUTF8(text[len(text)-most:], "")
	}
	return text
}

// process runs a program of the step; name tells it from the step's others. A program that cannot be run, or reached its limit, is
// an error; an exit code is none.
func (s *step) process(ctx context.Context, name string, limit time.Duration, p action.Process) (*done, error) {
	d, err := s.act(ctx, name, action.KindProcess, p, limit)
	if err != nil {
		return nil, err
	}
	if d.observation.GetOutcome() == agentv1.Outcome_OUTCOME_TIMED_OUT {
		return nil, rterr.New(rterr.Timeout, "", "%s did not end within %s", p.Argv[0], limit).WithRan(rterr.RanYes)
	}
	return d, nil
}

// act executes an action of the step and reads it to its end. When ctx ends, so does the action.
func (s *step) act(ctx context.Context, name, kind string, payload any, limit time.Duration) (*done, error) {
	a, err := action.New(kind, payload, limit)
	if err != nil {
		return nil, err
	}
	a.Id = s.id + "." + name
	d, err := s.follow(ctx, a)
	if err != nil {
		if ctx.Err() != nil {
			s.end(ctx, a.GetId())
		}
		return nil, err
	}
	switch d.observation.GetOutcome() {
	case agentv1.Outcome_OUTCOME_FAILED, agentv1.Outcome_OUTCOME_LOST:
		return nil, failed(d.observation, payload)
	case agentv1.Outcome_OUTCOME_INTERRUPTED:
		return nil, rterr.New(rterr.Cancelled, "", "action %s was interrupted", a.GetId()).WithRan(rterr.RanYes)
	}
	return d, nil
}

// follow reads an action's stream to the observation.
func (s *step) follow(ctx context.Context, a *agentv1.Action) (*done, error) {
	stream, err := s.runtimes.Execute(ctx, s.runtime.GetId(), &agentv1.ExecuteRequest{Action: a, Output: agentv1.OutputMode_OUTPUT_MODE_STREAM})
	if err != nil {
		return nil, err
	}
	defer stream.Close() //nolint:errcheck // closing a read side
	d := &done{}
	for {
		ev, err := stream.Recv()
		switch {
		case err != nil:
			return nil, err
		case ev.GetOutput() != nil:
			d.add(ev.GetOutput())
		case ev.GetGap() != nil:
			d.cut = true
		case ev.GetObservation() != nil:
			d.observation = ev.GetObservation()
			return d, nil
		}
	}
}

func (d *done) add(out *agentv1.Output) {
	into := &d.stdout
	if out.GetChannel() == agentv1.Channel_CHANNEL_STDERR {
		into = &d.stderr
	}
	room := max(maxOutput-len(*into), 0)
	d.cut = d.cut || len(out.GetData()) > room
	*into = append(*into, out.GetData()[:min(room, len(out.GetData()))]...)
}

// end kills an action whose step has ran out of time; ctx has ended.
func (s *step) end(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	// What cannot be killed ends by its own limit.
	_, _ = s.runtimes.Interrupt(ctx, s.runtime.GetId(), id, agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL)
}

// failed is the error of an action that did not run, or of which nothing is known.
func failed(obs *agentv1.Observation, payload any) error {
	err := rterr.From(rtwire.FromDetail(obs.GetError()))
	if err == nil {
		err = rterr.New(rterr.OutcomeUnknown, "", "the action's outcome is not known").WithRan(rterr.RanUnknown)
	}
	p, isProcess := payload.(action.Process)
	if isProcess && err.Reason == rterr.NotFound {
		return rterr.New(rterr.Unsupported, "", "the sandbox has no %s, or not the folder", p.Argv[0]).WithCause(err).
			WithRan(rterr.RanNo).WithRemedy("use an image that has it; " + strconv.Quote(p.Argv[0]) + " is looked up in PATH")
	}
	return err
}

// run executes a command in the runtime's shell.
func (s *step) run(ctx context.Context, name, command string, limit time.Duration) (*action.RunObservation, *done, error) {
	d, err := s.act(ctx, name, action.KindRun, action.Run{Command: command, Blocking: true, Hidden: true}, limit)
	if err != nil {
		return nil, nil, err
	}
	obs := &action.RunObservation{}
	if len(d.observation.GetPayload()) > 0 { // what was too large for the journal is left out of a repeat's answer
		if err := json.Unmarshal(d.observation.GetPayload(), obs); err != nil {
			return nil, nil, rterr.New(rterr.Integrity, "", "the shell's answer cannot be read: %v", err)
		}
	} else {
		obs.Extras.Metadata.ExitCode = d.code()
	}
	return obs, d, nil
}

// busy: the shell has not taken the command, because another one still runs in it.
func busy(obs *action.RunObservation, d *done) bool {
	return d.observation.GetOutcome() == agentv1.Outcome_OUTCOME_COMPLETED && obs.Extras.Metadata.ExitCode == -1
}

func errBusy() error {
	return rterr.New(rterr.IllegalState, "", "another command still runs in the shell").WithRan(rterr.RanNo).
		WithRemedy("end it: send C-c as input to the shell")
}
