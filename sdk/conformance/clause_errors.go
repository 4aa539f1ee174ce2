package conformance

import (
	"context"
	"errors"
	"slices"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func errorClauses() []clause {
	return []clause{
		{name: "errors/no-handle", run: errorsNoHandle,
			rule: "A call for a sandbox without a handle is refused with INVALID_ARGUMENT, and the field is named."},
		{name: "errors/deadline", run: errorsDeadline,
			rule: "A call whose deadline has passed ends, and the plugin goes on."},
		{name: "errors/detail", last: true, run: errorsDetail,
			rule: "Every error carries an ErrorDetail with a reason and a message, UNIMPLEMENTED for what is left out as well."},
	}
}

func errorsNoHandle(ctx context.Context, c *check) error {
	calls := callsOfSandbox(c.s.main, nil, mint("agent"))
	for _, name := range slices.Sorted(mapKeys(calls)) {
		c.step("%s without a handle", name)
		err := calls[name](ctx)
		if optional(name) && rterr.Is(err, rterr.Unsupported) {
			continue
		}
		if err := wantReason(err, rterr.InvalidArgument); err != nil {
			return err
		}
		if err := wantField(err, "handle"); err != nil {
			return err
		}
	}
	return nil
}

func errorsDeadline(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("an action that outlasts the deadline of its call")
	brief, cancel := context.WithTimeout(ctx, shortTimeout)
	defer cancel()
	a := process("sleep", "1000")
	_, err = run(brief, pluginRoute{}, sb, a)
	if err := wantReason(err, rterr.Timeout, rterr.Cancelled); err != nil {
		return err
	}
	c.step("kill the action, which goes on")
	return hit(ctx, pluginRoute{}, sb, a, levelKill)
}

// errorsDetail provokes a few errors of its own, for a run of this clause alone, and judges every error of the run.
func errorsDetail(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("provoke errors")
	for _, call := range callsOfSandbox(c.s.main, nil, mint("agent")) {
		_ = call(ctx)
	}
	_ = hit(ctx, pluginRoute{}, sb, process("true"), levelKill) // it never ran
	_, _ = runOrder(ctx, pluginRoute{}, sb, order{action: &agentv1.Action{Id: action.NewID()}, attach: true})
	_, _ = run(ctx, pluginRoute{}, sb, rawAction("conformance_no_such_kind", "{}", 0))
	c.step("look at every error of this run")
	if bare := c.s.bare.list(); len(bare) > 0 {
		return errors.New(strings.Join(bare, "\n"))
	}
	return nil
}
