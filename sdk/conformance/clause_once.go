package conformance

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"golang.org/x/sync/errgroup"
)

func onceClauses() []routed {
	needs := []need{needProcess()}
	return []routed{
		{name: "once/concurrent", needs: needs, run: onceConcurrent,
			rule: "The same action id sent several times at once runs once, and every stream has the whole output and the one observation."},
		{name: "once/later", needs: needs, run: onceLater,
			rule: "An action id sent again after its end is answered from its record and does not run again."},
		{name: "once/conflict", needs: needs, run: onceConflict,
			rule: "The same action id with another payload is refused with ACTION_CONFLICT, and nothing runs."},
	}
}

// twins is the number of streams that send one id at once.
const twins = 4

// counting makes an action that leaves one line in a file each time it runs.
func counting() (*agentv1.Action, string) {
	file := mint("count")
	return shell(`echo x >> "$1"; echo ran; sleep 0.3; echo end`, file), file
}

// ranTimes counts how often a counting action ran.
func ranTimes(ctx context.Context, sb *sandbox, file string) (int, error) {
	out, err := ok(ctx, pluginRoute{}, sb, shell(`cat "$1" 2>/dev/null || true`, file))
	return strings.Count(out, "x\n"), err
}

func wantOnce(ctx context.Context, c *check, sb *sandbox, file string) error {
	c.step("count how often it ran")
	times, err := ranTimes(ctx, sb, file)
	if err != nil {
		return err
	}
	if times != 1 {
		return fmt.Errorf("the action ran %d times", times)
	}
	return nil
}

func onceConcurrent(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	a, file := counting()
	c.step("send one id %d times at once", twins)
	streams := make([]*running, twins)
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range streams {
		group.Go(func() (err error) {
			streams[i], err = run(groupCtx, via, sb, proto.CloneOf(a))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := wantOnce(ctx, c, sb, file); err != nil {
		return err
	}
	for _, r := range streams {
		if err := sameAnswer(streams[0], r); err != nil {
			return err
		}
	}
	return nil
}

// sameAnswer checks that two streams tell of one run.
func sameAnswer(first, second *running) error {
	if diff := cmp.Diff(first.last, second.last, protocmp.Transform()); diff != "" {
		return fmt.Errorf("one action has two observations (-first +second):\n%s", diff)
	}
	if got := string(second.output[stdout]); got != "ran\nend\n" {
		return fmt.Errorf("want the whole output, %q, got %q", "ran\nend\n", got)
	}
	return nil
}

func onceLater(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	a, file := counting()
	c.step("run it")
	first, err := run(ctx, via, sb, a)
	if err != nil {
		return err
	}
	c.step("send the same id again")
	second, err := run(ctx, via, sb, a)
	if err != nil {
		return err
	}
	if err := wantOnce(ctx, c, sb, file); err != nil {
		return err
	}
	return sameAnswer(first, second)
}

func onceConflict(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("run it")
	first := process("true")
	if _, err := run(ctx, via, sb, first); err != nil {
		return err
	}
	other, file := counting()
	other.Id, other.Digest = first.GetId(), action.Digest(other.GetKind(), 0, other.GetPayload())
	c.step("send the id with another payload")
	_, err = run(ctx, via, sb, other)
	if err := wantReason(err, rterr.ActionConflict); err != nil {
		return err
	}
	c.step("count how often it ran")
	times, err := ranTimes(ctx, sb, file)
	if err != nil {
		return err
	}
	if times != 0 {
		return fmt.Errorf("the refused action ran %d times", times)
	}
	return nil
}
