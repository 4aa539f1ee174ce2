package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func runClauses() []routed {
	needs := []need{needRun()}
	both := []need{needRun(), needProcess()}
	return []routed{
		{name: "run/output", needs: needs, run: runOutput,
			rule: "A run action's output is the PTY channel, in order, and its observation has the text, the exit code and the working directory."},
		{name: "run/state", needs: needs, run: runState,
			rule: "Directory, variables and functions persist from one run action to the next."},
		{name: "run/turns", needs: both, run: runTurns,
			rule: "Run actions take turns in the order of arrival, and one that waits is QUEUED."},
		{name: "run/withdrawn", needs: both, run: runWithdrawn,
			rule: "Interrupting a queued run action withdraws it without running it."},
		{name: "run/interrupt", needs: both, run: runInterrupt,
			rule: "INTERRUPT ends the command in the shell; the shell and its state stay."},
		{name: "run/timeout", needs: needs, run: runTimeout,
			rule: "A run action that runs into its timeout has OUTCOME_TIMED_OUT, its output so far, and no exit code."},
		{name: "run/bad-payload", needs: needs, run: runBadPayload,
			rule: "A run action without a command is refused with INVALID_ARGUMENT, and the field is named."},
	}
}

// ranObservation reads the payload of a run action's observation.
func ranObservation(o *agentv1.Observation) (*action.RunObservation, error) {
	v := &action.RunObservation{}
	if err := json.Unmarshal(o.GetPayload(), v); err != nil {
		return nil, fmt.Errorf("the observation's payload: %w", err)
	}
	if v.Observation != action.KindRun {
		return nil, fmt.Errorf("the payload's observation is %q, want %q", v.Observation, action.KindRun)
	}
	return v, nil
}

func runOutput(ctx context.Context, c *check, via route) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("cd /; echo hello; (exit 7)")
	r, err := run(ctx, via, sb, command("cd /; echo hello; (exit 7)"))
	if err != nil {
		return err
	}
	if err := wantExit(r.last, 7); err != nil {
		return err
	}
	text, err := ranObservation(r.last)
	if err != nil {
		return err
	}
	meta := text.Extras.Metadata
	switch {
	case r.broken != "":
		return errors.New(r.broken)
	case !strings.Contains(string(r.output[pty]), "hello"):
		return fmt.Errorf("the PTY channel has %s", quote(r.output[pty]))
	case len(r.output[stdout])+len(r.output[stderr]) > 0:
		return errors.New("a run action wrote to another channel than PTY")
	case strings.TrimSpace(text.Content) != "hello":
		return fmt.Errorf("the observation's content is %q, want %q", text.Content, "hello")
	case meta.ExitCode != 7 || meta.WorkingDir != "/":
		return fmt.Errorf("the metadata has exit code %d in %q, want 7 in %q", meta.ExitCode, meta.WorkingDir, "/")
	}
	return nil
}

// said runs a command and returns the text of its observation.
func said(ctx context.Context, via route, sb *sandbox, text string) (string, error) {
	r, err := run(ctx, via, sb, command(text))
	if err != nil {
		return "", err
	}
	if err := wantExit(r.last, 0); err != nil {
		return "", err
	}
	o, err := ranObservation(r.last)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(o.Content), nil
}

func runState(ctx context.Context, c *check, via route) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("set directory, variables and a function")
	if _, err := said(ctx, via, sb, "cd /usr; kept=5; export EXPORTED=6; f() { echo seven; }"); err != nil {
		return err
	}
	c.step("look at them in the next action")
	got, err := said(ctx, via, sb, `echo "$PWD $kept $EXPORTED $(f) $(sh -c 'echo $EXPORTED')"`)
	if err != nil {
		return err
	}
	if want := "/usr 5 6 seven 6"; got != want {
		return fmt.Errorf("want %q, got %q", want, got)
	}
	return nil
}

// held starts a run action that holds the shell until the gate opens.
func held(ctx context.Context, via route, sb *sandbox) (*running, string, error) {
	gate := mint("gate")
	a := command(fmt.Sprintf(`echo rea"dy"; while [ ! -e %q ]; do sleep 0.05; done; echo first >> order`, gate))
	r, err := startOn(ctx, via, sb, order{action: a})
	if err != nil {
		return nil, "", err
	}
	if err := r.until(pty, "ready"); err != nil {
		r.close()
		return nil, "", err
	}
	return r, gate, nil
}

// queued starts a run action that must wait for its turn.
func queued(ctx context.Context, via route, sb *sandbox, text string) (*running, error) {
	r, err := startOn(ctx, via, sb, order{action: command(text)})
	if err != nil {
		return nil, err
	}
	if err := r.started(); err != nil {
		r.close()
		return nil, err
	}
	if got := r.record.GetState(); got != agentv1.ActionState_ACTION_STATE_QUEUED {
		r.close()
		return nil, fmt.Errorf("an action that has to wait is %s, want ACTION_STATE_QUEUED", got)
	}
	return r, nil
}

func runTurns(ctx context.Context, c *check, via route) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("hold the shell")
	first, gate, err := held(ctx, via, sb)
	if err != nil {
		return err
	}
	defer first.close()
	turns := []*running{first}
	for _, name := range []string{"second", "third"} {
		c.step("queue the %s", name)
		r, err := queued(ctx, via, sb, "echo "+name+" >> order")
		if err != nil {
			return err
		}
		defer r.close()
		turns = append(turns, r)
	}
	c.step("let the first go on")
	if err := pass(ctx, via, sb, gate); err != nil {
		return err
	}
	for _, r := range turns {
		last, err := r.finish()
		if err != nil {
			return err
		}
		if err := wantExit(last, 0); err != nil {
			return err
		}
	}
	return wantFile(ctx, sb, "order", "first\nsecond\nthird\n")
}

func wantFile(ctx context.Context, sb *sandbox, file, want string) error {
	got, err := ok(ctx, pluginRoute{}, sb, process("cat", file))
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("want %q in %s, got %q", want, file, got)
	}
	return nil
}

func runWithdrawn(ctx context.Context, c *check, via route) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("hold the shell")
	first, gate, err := held(ctx, via, sb)
	if err != nil {
		return err
	}
	defer first.close()
	c.step("queue the second, and interrupt it")
	second, err := queued(ctx, via, sb, "echo second >> order")
	if err != nil {
		return err
	}
	defer second.close()
	if err := hit(ctx, via, sb, &agentv1.Action{Id: second.record.GetId()}, levelInterrupt); err != nil {
		return err
	}
	last, err := second.finish()
	if err != nil {
		return err
	}
	if last.GetOutcome() != agentv1.Outcome_OUTCOME_INTERRUPTED || last.ExitCode != nil {
		return fmt.Errorf("want OUTCOME_INTERRUPTED without an exit code, got %s", told(last))
	}
	c.step("let the first go on")
	if err := pass(ctx, via, sb, gate); err != nil {
		return err
	}
	if _, err := first.finish(); err != nil {
		return err
	}
	c.step("run another, after which the withdrawn one would have run")
	if _, err := said(ctx, via, sb, "echo third >> order"); err != nil {
		return err
	}
	return wantFile(ctx, sb, "order", "first\nthird\n")
}

func runInterrupt(ctx context.Context, c *check, via route) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("set a variable, then hold the shell")
	if _, err := said(ctx, via, sb, "kept=5"); err != nil {
		return err
	}
	first, _, err := held(ctx, via, sb)
	if err != nil {
		return err
	}
	defer first.close()
	c.step("INTERRUPT")
	if err := hit(ctx, via, sb, &agentv1.Action{Id: first.record.GetId()}, levelInterrupt); err != nil {
		return err
	}
	last, err := first.finish()
	if err != nil {
		return err
	}
	if last.GetOutcome() != agentv1.Outcome_OUTCOME_INTERRUPTED {
		return fmt.Errorf("want OUTCOME_INTERRUPTED, got %s", told(last))
	}
	c.step("look at the variable in the same shell")
	got, err := said(ctx, via, sb, "echo $kept")
	if err != nil {
		return err
	}
	if got != "5" {
		return fmt.Errorf("want %q, got %q: the shell is another one", "5", got)
	}
	return nil
}

func runTimeout(ctx context.Context, c *check, via route) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("run into a timeout of %v", shortTimeout)
	r, err := run(ctx, via, sb, newAction(action.KindRun, action.Run{Command: "echo partial; sleep 1000"}, shortTimeout))
	if err != nil {
		return err
	}
	if r.last.GetOutcome() != agentv1.Outcome_OUTCOME_TIMED_OUT || r.last.ExitCode != nil {
		return fmt.Errorf("want OUTCOME_TIMED_OUT without an exit code, got %s", told(r.last))
	}
	if !strings.Contains(string(r.output[pty]), "partial") {
		return fmt.Errorf("want the output so far, got %s", quote(r.output[pty]))
	}
	return nil
}

func runBadPayload(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("payload {}")
	why, err := refusal(ctx, via, sb, rawAction(action.KindRun, "{}", 0))
	if err != nil {
		return err
	}
	return errors.Join(wantReason(why, rterr.InvalidArgument), wantField(why, "action.payload.command"))
}
