package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

func connectClauses() []clause {
	return []clause{
		{name: "connect/status-order", run: connectOrder,
			rule: "Each status of a Connect stream is one that the table of statuses allows after the one before, beginning with STARTING_RUNTIME."},
		{name: "connect/connected-once", run: connectOnce,
			rule: "A Connect stream ends with exactly one Connected, which is its last event."},
		{name: "connect/steps", run: connectSteps,
			rule: "Each step has a name and a state, is started before it is done or failed, and its progress lies between 0 and 1."},
		{name: "connect/handle", run: connectHandle,
			rule: "The handle has a schema, the configured backend's name, the sandbox's id, and at most 64 KiB of its own."},
		{name: "connect/intent", run: connectIntent,
			rule: "Connect is idempotent by intent_id: repeated, it finds the sandbox that the first one made."},
		{name: "connect/distinct", run: connectDistinct,
			rule: "Another intent makes another sandbox."},
		{name: "connect/env", needs: []need{needProcess()}, run: connectEnv,
			rule: "The environment of the spec is that of every action."},
		{name: "connect/cancelled", run: connectCancelled,
			rule: "A Connect that is cancelled, at whatever moment, leaves no sandbox behind."},
	}
}

func connectOrder(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("statuses of a new sandbox")
	return checkOrder(sb.trace.statuses(), false)
}

func connectOnce(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	events := sb.trace.events
	if n := len(sb.trace.connected()); n != 1 {
		return fmt.Errorf("want one Connected, got %d", n)
	}
	if last := events[len(events)-1]; last.GetConnected() == nil {
		return fmt.Errorf("the last event is %T", last.GetEvent())
	}
	if sb.connected.GetAttached() {
		return errors.New("a new sandbox is called attached")
	}
	if sb.connected.GetCapabilities() == nil {
		return errors.New("Connected has no capabilities")
	}
	return nil
}

func connectSteps(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	return checkSteps(sb.trace.events)
}

func checkSteps(events []*backendv1.ConnectResponse) error {
	begun := map[string]bool{}
	for _, e := range events {
		step := e.GetStep()
		if step == nil {
			continue
		}
		name, state := step.GetName(), step.GetState()
		switch {
		case name == "":
			return errors.New("a step has no name")
		case state == backendv1.StepState_STEP_STATE_UNSPECIFIED:
			return fmt.Errorf("step %q has no state", name)
		case state != backendv1.StepState_STEP_STATE_STARTED && !begun[name]:
			return fmt.Errorf("step %q is %s without having started", name, state)
		case step.GetProgress() < 0 || step.GetProgress() > 1:
			return fmt.Errorf("step %q has progress %v", name, step.GetProgress())
		}
		begun[name] = state == backendv1.StepState_STEP_STATE_STARTED
	}
	for name, open := range begun {
		if open {
			return fmt.Errorf("step %q started and never ended", name)
		}
	}
	return nil
}

// maxOpaque is the largest opaque part of a handle, in bytes.
const maxOpaque = 64 << 10

func connectHandle(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	h := sb.handle
	switch {
	case h.GetSchema() == 0:
		return errors.New("the handle has no schema number")
	case h.GetBackend() != c.s.target.Backend:
		return fmt.Errorf("the handle's backend is %q, configured was %q", h.GetBackend(), c.s.target.Backend)
	case h.GetSandboxId() == "":
		return errors.New("the handle has no sandbox_id")
	case len(h.GetOpaque()) > maxOpaque:
		return fmt.Errorf("the opaque part has %d bytes, at most %d are allowed", len(h.GetOpaque()), maxOpaque)
	}
	return nil
}

func connectIntent(ctx context.Context, c *check) error {
	first, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("connect with the same intent")
	again, err := c.s.connect(ctx, c.s.main, first.req)
	if err != nil {
		return err
	}
	c.later(again.discard)
	if again.id() != first.id() {
		return fmt.Errorf("the second Connect made sandbox %s beside %s", again.id(), first.id())
	}
	if !again.connected.GetAttached() {
		return errors.New("the sandbox that was there before is not called attached")
	}
	c.step("list by intent")
	return wantListed(ctx, first, first.id())
}

// wantListed checks which sandboxes of a creation exist.
func wantListed(ctx context.Context, sb *sandbox, want ...string) error {
	listed, err := sb.intents(ctx)
	if err != nil {
		return err
	}
	var got []string
	for _, l := range listed {
		got = append(got, l.GetHandle().GetSandboxId())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("want the sandboxes %q of this intent, List has %q", want, got)
	}
	return nil
}

func connectDistinct(ctx context.Context, c *check) error {
	first, err := c.connect(ctx)
	if err != nil {
		return err
	}
	second, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if first.id() == second.id() {
		return fmt.Errorf("two intents have the one sandbox %s", first.id())
	}
	return nil
}

func connectEnv(ctx context.Context, c *check) error {
	const value = "a b\t'ö\"$x"
	sb, err := c.connect(ctx, func(r *backendv1.ConnectRequest) {
		env := map[string]string{"CONFORMANCE_ENV": value}
		for k, v := range r.GetSpec().GetEnv() {
			env[k] = v
		}
		r.Spec.Env = env
	})
	if err != nil {
		return err
	}
	c.step("print the variable")
	out, err := ok(ctx, pluginRoute{}, sb, shell(`printf %s "$CONFORMANCE_ENV"`))
	if err != nil {
		return err
	}
	if out != value {
		return fmt.Errorf("want %q, got %q", value, out)
	}
	return nil
}
