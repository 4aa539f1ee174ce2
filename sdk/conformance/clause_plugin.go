package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func pluginClauses() []clause {
	crash := []need{needCommand(), needOnce(), needProcess()}
	return []clause{
		{name: "plugin/killed", needs: crash, run: pluginKilled,
			rule: "When the plugin is killed in the middle of an action, another process of it attaches by the handle, and the action has gone on: same pid, whole output, one observation."},
		{name: "plugin/killed-stream", needs: append([]need{needEndpoint()}, crash...), run: pluginKilledStream,
			rule: "Killing the plugin cuts no stream that goes straight to the agent."},
		{name: "plugin/lifeline", needs: []need{needCommand()}, run: pluginLifeline,
			rule: "A plugin ends by itself when its host is gone, and its sandboxes stay."},
		{name: "plugin/drain", needs: []need{needCommand()}, run: pluginDrain,
			rule: "After Drain a Connect is refused with UNAVAILABLE, and sandboxes stay; a plugin may leave Drain out."},
		{name: "plugin/large-message", needs: []need{needProcess()}, run: pluginLarge,
			rule: "A payload of 4 MiB is taken, a larger one refused with INVALID_ARGUMENT, and the connection goes on."},
	}
}

func pluginKilled(ctx context.Context, c *check) error {
	first, err := c.configured(ctx)
	if err != nil {
		return err
	}
	sb, err := c.connectOn(ctx, first)
	if err != nil {
		return err
	}
	a, gate := gated(1, 50, 100)
	c.step("read the first half of an action")
	half, err := readUntil(ctx, pluginRoute{}, sb, a, "line 50\n")
	if err != nil {
		return err
	}
	c.step("kill the plugin")
	if err := first.plugin.Kill(); err != nil {
		return err
	}
	again, err := c.attachThrough(ctx, first, sb)
	if err != nil {
		return err
	}
	c.step("attach to the action")
	rest, err := startOn(ctx, pluginRoute{}, again, order{action: a, attach: true, from: at(half.nextOffset(stdout))})
	if err != nil {
		return err
	}
	defer rest.close()
	if err := wentOn(half, rest); err != nil {
		return err
	}
	c.step("let it go on")
	if err := pass(ctx, pluginRoute{}, again, gate); err != nil {
		return err
	}
	last, err := rest.finish()
	if err != nil {
		return err
	}
	if got := string(half.output[stdout]) + string(rest.output[stdout]); got != lines(1, 100) {
		return fmt.Errorf("the two parts of the output do not make the whole: %s", quote([]byte(got)))
	}
	return wantExit(last, 0)
}

// attachThrough launches the plugin again after its death and attaches to a sandbox of its predecessor.
func (c *check) attachThrough(ctx context.Context, dead *peer, sb *sandbox) (*sandbox, error) {
	p, err := c.relaunch(ctx, dead)
	if err != nil {
		return nil, err
	}
	c.step("configure the new plugin")
	if _, err := c.s.configure(ctx, p, c.s.target.Config); err != nil {
		return nil, wire(err)
	}
	c.step("attach through the new plugin")
	again, err := c.attach(ctx, p, sb)
	if err != nil {
		return nil, err
	}
	return again, sameSandbox(ctx, c, sb, again)
}

// wentOn checks that an action is the running one of before.
func wentOn(before, after *running) error {
	if err := after.started(); err != nil {
		return err
	}
	// The first record may be older than the process.
	if was := before.record.GetPid(); was != 0 && after.record.GetPid() != was {
		return fmt.Errorf("the action's pid was %d, now it is %d", was, after.record.GetPid())
	}
	if got := after.record.GetState(); got != agentv1.ActionState_ACTION_STATE_RUNNING {
		return fmt.Errorf("the action is %s, want ACTION_STATE_RUNNING", got)
	}
	return nil
}

func pluginKilledStream(ctx context.Context, c *check) error {
	first, err := c.configured(ctx)
	if err != nil {
		return err
	}
	sb, err := c.connectOn(ctx, first)
	if err != nil {
		return err
	}
	a, gate := gated(1, 50, 100)
	c.step("read the first half of an action, straight from the agent")
	r, err := startOn(ctx, agentRoute{}, sb, order{action: a})
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.until(stdout, "line 50\n"); err != nil {
		return err
	}
	c.step("kill the plugin")
	if err := first.plugin.Kill(); err != nil {
		return err
	}
	// What is made after the death is undone before the new plugin is stopped.
	c.step("let the action go on")
	if err := pass(ctx, agentRoute{}, sb, gate); err != nil {
		return err
	}
	c.step("read the rest of the same stream")
	last, err := r.finish()
	if err != nil {
		return err
	}
	if got := string(r.output[stdout]); got != lines(1, 100) {
		return fmt.Errorf("the output is not whole: %s", quote([]byte(got)))
	}
	if err := wantExit(last, 0); err != nil {
		return err
	}
	_, err = c.attachThrough(ctx, first, sb)
	return err
}

func pluginLifeline(ctx context.Context, c *check) error {
	first, err := c.configured(ctx)
	if err != nil {
		return err
	}
	sb, err := c.connectOn(ctx, first)
	if err != nil {
		return err
	}
	c.step("close the plugin's standard input, as the death of its host does")
	first.plugin.HangUp()
	select {
	case <-first.plugin.Exited():
	case <-ctx.Done():
		return fmt.Errorf("the plugin lives on: %w", ctx.Err())
	}
	_, err = c.attachThrough(ctx, first, sb)
	return err
}

func pluginDrain(ctx context.Context, c *check) error {
	p, err := c.configured(ctx)
	if err != nil {
		return err
	}
	sb, err := c.connectOn(ctx, p)
	if err != nil {
		return err
	}
	c.step("drain")
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if _, err := p.Drain(ctx, &backendv1.DrainRequest{}); rterr.Is(wire(err), rterr.Unsupported) {
		return nil
	} else if err != nil {
		return wire(err)
	}
	c.step("connect after Drain")
	if err := wantReason(follow(ctx, p, c.s.request()).err, rterr.Unavailable); err != nil {
		return err
	}
	return c.stillThere(ctx, sb)
}

func pluginLarge(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("send a payload of nearly 4 MiB")
	text := strings.Repeat("x", 100<<10)
	payload := `{"argv": ["sh", "-c", "echo $#", "sh"` + strings.Repeat(`, "`+text+`"`, 10) + `]}`
	payload += strings.Repeat(" ", 4<<20-len(payload))
	out, err := ok(ctx, pluginRoute{}, sb, rawAction("process", payload, 0))
	if err != nil {
		return err
	}
	if out != "10\n" {
		return fmt.Errorf("the program got %q arguments, want 10", out)
	}
	c.step("send a payload of more than 4 MiB")
	why, err := refusal(ctx, pluginRoute{}, sb, rawAction("process", payload+" ", 0))
	if err != nil {
		return err
	}
	if err := errors.Join(wantReason(why, rterr.InvalidArgument), wantField(why, "action.payload")); err != nil {
		return err
	}
	c.step("use the connection after it")
	_, err = ok(ctx, pluginRoute{}, sb, process("true"))
	return err
}
