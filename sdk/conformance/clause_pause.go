package conformance

import (
	"context"
	"fmt"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

func pauseClauses() []clause {
	needs := []need{needPause()}
	return []clause{
		{name: "pause/holds", needs: append([]need{needProcess(), needKeeps()}, needs...), run: pauseHolds,
			rule: "Pause stops what runs in the sandbox; after Resume the same processes go on where they were."},
		{name: "pause/lost", needs: append([]need{needProcess(), needOnce(), needCutBy()}, needs...), run: pauseLost,
			rule: "Where Pause keeps the disk alone, an action that it cut is OUTCOME_LOST after Resume, is not run again, and files stay."},
		{name: "pause/idempotent", needs: needs, run: pauseIdempotent,
			rule: "Pause and Resume are idempotent, and the sandbox keeps its id."},
		{name: "pause/listed", needs: needs, run: pauseListed,
			rule: "A paused sandbox is listed with PHASE_PAUSED."},
		{name: "pause/close", needs: needs, run: pauseClose,
			rule: "A paused sandbox can be closed."},
	}
}

func pauseHolds(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("count")
	n, stop := count(ctx, sb)
	defer stop()
	if _, err := n.more(ctx, 5); err != nil {
		return err
	}
	if err := pause(ctx, c, sb); err != nil {
		return err
	}
	c.step("stay paused for %v", pauseLength)
	if err := sleep(ctx, pauseLength); err != nil {
		return err
	}
	if err := resume(ctx, c, sb); err != nil {
		return err
	}
	c.step("read on after Resume")
	ticks, err := n.more(ctx, 10)
	if err != nil {
		return err
	}
	longest, err := longestHold(ticks)
	if err != nil {
		return fmt.Errorf("the counter did not go on where it was: %w", err)
	}
	if longest < pauseSeen {
		return fmt.Errorf("the counter wrote on: its longest stop was %v, the sandbox was paused for %v", longest, pauseLength)
	}
	return nil
}

// pauseLost pauses in the middle of an action that would leave a second line in a file if it ran again.
func pauseLost(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	file := mint("count")
	a := shell(`echo x >> "$1"; echo ready; exec sleep 1000`, file)
	c.step("start an action")
	if _, err := readUntil(ctx, pluginRoute{}, sb, a, "ready\n"); err != nil {
		return err
	}
	if err := pause(ctx, c, sb); err != nil {
		return err
	}
	if err := resume(ctx, c, sb); err != nil {
		return err
	}
	c.step("send the action again after Resume")
	r, err := run(ctx, pluginRoute{}, sb, a)
	if err != nil {
		return err
	}
	if r.last.GetOutcome() != agentv1.Outcome_OUTCOME_LOST || r.last.GetError() == nil {
		return fmt.Errorf("want OUTCOME_LOST with an error, got %s", told(r.last))
	}
	return wantOnce(ctx, c, sb, file)
}

// sleep lets time pass where its passing is what is tested.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func pauseIdempotent(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		if err := pause(ctx, c, sb); err != nil {
			return err
		}
	}
	for range 2 {
		if err := resume(ctx, c, sb); err != nil {
			return err
		}
	}
	return c.stillThere(ctx, sb)
}

func pauseListed(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, c, sb); err != nil {
		return err
	}
	c.step("list by intent")
	listed, err := sb.intents(ctx)
	if err != nil {
		return err
	}
	if len(listed) != 1 || listed[0].GetPhase() != phasePaused {
		return fmt.Errorf("want one sandbox of PHASE_PAUSED, got %v", listed)
	}
	return nil
}

func pauseClose(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, c, sb); err != nil {
		return err
	}
	c.step("close the paused sandbox")
	if err := sb.delete(ctx); err != nil {
		return err
	}
	c.step("list by intent")
	return wantListed(ctx, sb)
}
