package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func configureClauses() []clause {
	return []clause{
		{name: "configure/before", needs: []need{needCommand()}, run: configureBefore,
			rule: "Until Configure has succeeded, everything but Describe and Configure fails with ILLEGAL_STATE."},
		{name: "configure/not-an-object", run: configureNotObject,
			rule: "A config that is no JSON object is refused with CONFIG_INVALID."},
		{name: "configure/unknown-key", run: configureUnknownKey,
			rule: "An unknown key is refused with CONFIG_INVALID, and named."},
		{name: "configure/bad-config", needs: []need{needBadConfigs()}, run: configureBad,
			rule: "A config that is wrong is refused with CONFIG_INVALID, and the field is named by its path."},
		{name: "configure/all-or-nothing", run: configureNothing,
			rule: "A refused config changes nothing: the one before is still in force, and sandboxes go on."},
		{name: "configure/again", run: configureAgain,
			rule: "Configure may be called again; sandboxes that exist stay within reach."},
	}
}

// unknownKey is a key that no backend has.
const unknownKey = "conformance_no_such_key"

func configureBefore(ctx context.Context, c *check) error {
	p, err := c.plugin(ctx)
	if err != nil {
		return err
	}
	c.step("describe")
	if _, err := p.Describe(ctx, &backendv1.DescribeRequest{}); err != nil {
		return wire(err)
	}
	calls := everyCall(p, &backendv1.Handle{Schema: 1, Backend: c.s.target.Backend, SandboxId: "none"}, c.s.request())
	for _, name := range slices.Sorted(mapKeys(calls)) {
		c.step("%s before Configure", name)
		err := calls[name](ctx)
		if optional(name) && rterr.Is(err, rterr.Unsupported) {
			continue // not implemented at all: nothing that Configure could change
		}
		if err := wantReason(err, rterr.IllegalState); err != nil {
			return err
		}
	}
	return nil
}

func configureNotObject(ctx context.Context, c *check) error {
	p, err := c.separate(ctx)
	if err != nil {
		return err
	}
	for _, config := range []string{"[]", "{", `"text"`, "null", "{} {}"} {
		c.step("configure with %s", config)
		_, err := c.s.configure(ctx, p, json.RawMessage(config))
		if err := wantReason(wire(err), rterr.ConfigInvalid); err != nil {
			return err
		}
	}
	return nil
}

func configureUnknownKey(ctx context.Context, c *check) error {
	p, err := c.separate(ctx)
	if err != nil {
		return err
	}
	c.step("configure with the key %s", unknownKey)
	config, err := withKey(c.s.target.Config, unknownKey)
	if err != nil {
		return err
	}
	_, err = c.s.configure(ctx, p, config)
	if err := wantReason(wire(err), rterr.ConfigInvalid); err != nil {
		return err
	}
	if e := rterr.From(wire(err)); !strings.Contains(e.Field, unknownKey) {
		return fmt.Errorf("the key is not named as the field: field %q, %s", e.Field, e.Error())
	}
	return nil
}

// withKey adds a key to a JSON object.
func withKey(config json.RawMessage, key string) (json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	if err := json.Unmarshal(config, &object); err != nil {
		return nil, fmt.Errorf("the target's config: %w", err)
	}
	object[key] = json.RawMessage("true")
	return json.Marshal(object)
}

func configureBad(ctx context.Context, c *check) error {
	p, err := c.separate(ctx)
	if err != nil {
		return err
	}
	for _, config := range c.s.target.BadConfigs {
		c.step("configure with %s", config)
		_, err := c.s.configure(ctx, p, config)
		if err := wantReason(wire(err), rterr.ConfigInvalid); err != nil {
			return err
		}
		if rterr.From(wire(err)).Field == "" {
			return fmt.Errorf("no field is named: %w", wire(err))
		}
	}
	return nil
}

func configureNothing(ctx context.Context, c *check) error {
	p, err := c.separate(ctx)
	if err != nil {
		return err
	}
	sb, err := c.connectOn(ctx, p)
	if err != nil {
		return err
	}
	bad, err := withKey(c.s.target.Config, unknownKey)
	if err != nil {
		return err
	}
	c.step("configure badly, with another owner")
	_, err = p.Configure(ctx, &backendv1.ConfigureRequest{Config: bad, Owner: mint("owner"),
		StateDir: p.stateDir, Backend: c.s.target.Backend})
	if err := wantReason(wire(err), rterr.ConfigInvalid); err != nil {
		return err
	}
	return c.stillThere(ctx, sb)
}

func configureAgain(ctx context.Context, c *check) error {
	p, err := c.separate(ctx)
	if err != nil {
		return err
	}
	sb, err := c.connectOn(ctx, p)
	if err != nil {
		return err
	}
	c.step("configure again")
	if _, err := c.s.configure(ctx, p, c.s.target.Config); err != nil {
		return wire(err)
	}
	return c.stillThere(ctx, sb)
}

// stillThere checks that a sandbox is listed under the configured owner and runs actions.
func (c *check) stillThere(ctx context.Context, sb *sandbox) error {
	c.step("list the sandbox made before")
	listed, err := sb.intents(ctx)
	if err != nil {
		return err
	}
	if len(listed) != 1 || listed[0].GetHandle().GetSandboxId() != sb.id() {
		return fmt.Errorf("want sandbox %s, got %d sandboxes", sb.id(), len(listed))
	}
	if !needProcess().met(c.s) {
		return nil
	}
	c.step("run an action in it")
	out, err := ok(ctx, pluginRoute{}, sb, process("echo", "here"))
	if err != nil {
		return err
	}
	if out != "here\n" {
		return errors.New("the action's output is " + quote([]byte(out)))
	}
	return nil
}
