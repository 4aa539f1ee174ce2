package conformance

import (
	"context"
	"errors"
	"fmt"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	levelInterrupt = agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT
	levelTerminate = agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE
	levelKill      = agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL
)

func interruptClauses() []routed {
	needs := []need{needProcess()}
	return []routed{
		{name: "interrupt/levels", needs: needs, run: interruptLevels,
			rule: "Each level of Interrupt ends a command that does not resist, with OUTCOME_INTERRUPTED and the output so far."},
		{name: "interrupt/signals", needs: needs, run: interruptSignals,
			rule: "INTERRUPT arrives as SIGINT and TERMINATE as SIGTERM; a command may handle them and end as it likes."},
		{name: "interrupt/stubborn", needs: needs, run: interruptStubborn,
			rule: "A command that ignores SIGINT and SIGTERM goes on, and KILL ends it."},
		{name: "interrupt/detached", needs: append([]need{needTree()}, needs...), run: interruptDetached,
			rule: "KILL reaches what the action began in a session of its own."},
		{name: "interrupt/done", needs: needs, run: interruptDone,
			rule: "Interrupting an action that is done changes nothing and says so; an unknown one is NOT_FOUND."},
	}
}

func interruptLevels(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	for _, level := range []agentv1.InterruptLevel{levelInterrupt, levelTerminate, levelKill} {
		c.step("%s", level)
		r, err := interrupted(ctx, via, sb, shell("echo ready; exec sleep 1000"), level)
		if err != nil {
			return err
		}
		if r.last.GetOutcome() != agentv1.Outcome_OUTCOME_INTERRUPTED {
			return fmt.Errorf("want OUTCOME_INTERRUPTED, got %s", told(r.last))
		}
		if got := string(r.output[stdout]); got != "ready\n" {
			return fmt.Errorf("want the output so far, got %q", got)
		}
	}
	return nil
}

// interrupted starts an action, interrupts it once it has written "ready", and reads to its end.
func interrupted(ctx context.Context, via route, sb *sandbox, a *agentv1.Action, level agentv1.InterruptLevel) (*running, error) {
	r, err := startOn(ctx, via, sb, order{action: a})
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.until(stdout, "ready\n"); err != nil {
		return nil, err
	}
	if err := hit(ctx, via, sb, a, level); err != nil {
		return nil, err
	}
	_, err = r.finish()
	return r, err
}

// hit interrupts an action that must be running.
func hit(ctx context.Context, via route, sb *sandbox, a *agentv1.Action, level agentv1.InterruptLevel) error {
	signalled, err := via.interrupt(ctx, sb, a.GetId(), level)
	if err != nil {
		return err
	}
	if !signalled {
		return errors.New("Interrupt says that nothing was signalled, yet the action runs")
	}
	return nil
}

func interruptSignals(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	for level, name := range map[agentv1.InterruptLevel]string{levelInterrupt: "INT", levelTerminate: "TERM"} {
		c.step("%s to a command that traps %s", level, name)
		script := fmt.Sprintf(`trap 'echo caught; exit 10' %s; echo ready; while :; do sleep 0.05; done`, name)
		r, err := interrupted(ctx, via, sb, shell(script), level)
		if err != nil {
			return err
		}
		if got := string(r.output[stdout]); got != "ready\ncaught\n" || r.last.GetExitCode() != 10 {
			return fmt.Errorf("want the trap's output and exit code 10, got %q, %s", got, told(r.last))
		}
	}
	return nil
}

func interruptStubborn(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	gate := mint("gate")
	a := shell(`trap '' INT TERM; echo ready; while [ ! -e "$1" ]; do sleep 0.05; done; echo still; while :; do sleep 0.05; done`, gate)
	r, err := startOn(ctx, via, sb, order{action: a})
	if err != nil {
		return err
	}
	defer r.close()
	c.step("INTERRUPT and TERMINATE what ignores them")
	if err := r.until(stdout, "ready\n"); err != nil {
		return err
	}
	if err := errors.Join(hit(ctx, via, sb, a, levelInterrupt), hit(ctx, via, sb, a, levelTerminate)); err != nil {
		return err
	}
	if err := pass(ctx, via, sb, gate); err != nil {
		return err
	}
	if err := r.until(stdout, "still\n"); err != nil {
		return err
	}
	c.step("KILL it")
	if err := hit(ctx, via, sb, a, levelKill); err != nil {
		return err
	}
	last, err := r.finish()
	if err != nil {
		return err
	}
	if last.GetOutcome() != agentv1.Outcome_OUTCOME_INTERRUPTED {
		return fmt.Errorf("want OUTCOME_INTERRUPTED, got %s", told(last))
	}
	return nil
}

// interruptDetached needs no guess about process ids: a reader of a pipe sees its end when the last writer is dead, and the
// only writer is a grandchild in a session of its own.
func interruptDetached(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	pipe := mint("pipe")
	c.step("make a pipe and read it")
	if _, err := ok(ctx, via, sb, process("mkfifo", pipe)); err != nil {
		return err
	}
	reader, err := startOn(ctx, via, sb, order{action: process("cat", pipe)})
	if err != nil {
		return err
	}
	defer reader.close()
	c.step("KILL an action whose grandchild in another session writes to the pipe")
	_, err = interrupted(ctx, via, sb, shell(
		`setsid sh -c 'exec 3>"$1"; echo up >&3; echo ready; exec sleep 1000' sh "$1" & exec sleep 1000`, pipe), levelKill)
	if err != nil {
		return err
	}
	c.step("wait for the grandchild's end of the pipe to be closed")
	if _, err := reader.finish(); err != nil {
		return fmt.Errorf("the grandchild lives on: %w", err)
	}
	return wantExit(reader.last, 0)
}

func interruptDone(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	a := process("true")
	c.step("run it to its end")
	if _, err := run(ctx, via, sb, a); err != nil {
		return err
	}
	c.step("interrupt what is done")
	signalled, err := via.interrupt(ctx, sb, a.GetId(), levelKill)
	if err != nil {
		return err
	}
	if signalled {
		return errors.New("Interrupt says that it signalled an action that was done")
	}
	c.step("interrupt an unknown action")
	_, err = via.interrupt(ctx, sb, action.NewID(), levelInterrupt)
	return wantReason(err, rterr.NotFound)
}
