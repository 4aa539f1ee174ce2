package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// check is the run of one clause: what it made, and the step it is in.
type check struct {
	s     *suite
	name  string
	doing string
	undo  []func(context.Context)
	used  bool // it works in the shared sandbox
}

// step names what is done next; a failure tells it.
func (c *check) step(format string, args ...any) { c.doing = fmt.Sprintf(format, args...) }

// explain turns the failure of a clause into its detail, and keeps it from the clauses that follow.
func (c *check) explain(err error) string {
	if c.used {
		c.s.retire()
	}
	detail := err.Error()
	if reason := rterr.ReasonOf(err); isOurs(err) && !strings.Contains(detail, reason.String()) {
		detail += " [" + reason.String() + "]"
	}
	if errors.Is(err, context.DeadlineExceeded) || rterr.Is(err, rterr.Timeout) {
		detail += " (no end within the clause's time limit)"
	}
	if c.doing != "" {
		detail = c.doing + ": " + detail
	}
	return detail
}

func isOurs(err error) bool {
	_, ours := errors.AsType[*rterr.Error](err)
	return ours
}

// clean undoes what the clause made, the latest first. It detaches from the clause's context: that one may be what ended.
func (c *check) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
	defer cancel()
	for _, undo := range slices.Backward(c.undo) {
		undo(ctx)
	}
}

func (c *check) later(undo func(context.Context)) { c.undo = append(c.undo, undo) }

// shared returns the sandbox that clauses share.
func (c *check) shared(ctx context.Context) (*sandbox, error) {
	c.step("connect")
	c.used = true
	return c.s.shared(ctx)
}

// connect makes a sandbox for this clause alone, on the main plugin; edit changes the request.
func (c *check) connect(ctx context.Context, edit ...func(*backendv1.ConnectRequest)) (*sandbox, error) {
	return c.connectOn(ctx, c.s.main, edit...)
}

func (c *check) connectOn(ctx context.Context, p *peer, edit ...func(*backendv1.ConnectRequest)) (*sandbox, error) {
	req := c.s.request()
	for _, e := range edit {
		e(req)
	}
	c.step("connect")
	sb, err := c.s.connect(ctx, p, req)
	if err != nil {
		return nil, err
	}
	c.later(sb.discard)
	return sb, nil
}

// attach connects to a sandbox by its handle and returns how that went.
func (c *check) attach(ctx context.Context, p *peer, sb *sandbox) (*sandbox, error) {
	req := sb.attachRequest()
	again, err := c.s.connect(ctx, p, req)
	if err != nil {
		return nil, err
	}
	c.later(again.discard)
	return again, nil
}

// plugin launches another plugin of the same binary; it is stopped after the clause.
func (c *check) plugin(ctx context.Context) (*peer, error) {
	c.step("launch a plugin")
	p, err := c.s.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.later(func(ctx context.Context) { c.s.stop(ctx, p) })
	return p, nil
}

// relaunch starts a plugin over the folder of one that is dead.
func (c *check) relaunch(ctx context.Context, dead *peer) (*peer, error) {
	c.step("launch the plugin again")
	p, err := c.s.launch(ctx, dead.stateDir, dead.owner)
	if err != nil {
		return nil, err
	}
	c.later(func(ctx context.Context) { c.s.stop(ctx, p) })
	return p, nil
}

// configured launches another plugin and configures it.
func (c *check) configured(ctx context.Context) (*peer, error) {
	p, err := c.plugin(ctx)
	if err != nil {
		return nil, err
	}
	c.step("configure")
	_, err = c.s.configure(ctx, p, c.s.target.Config)
	return p, wire(err)
}

// separate returns a configured plugin of the clause's own where plugins are launched, so that what the clause does to it harms
// no other clause; else the main one.
func (c *check) separate(ctx context.Context) (*peer, error) {
	if needCommand().met(c.s) {
		return c.configured(ctx)
	}
	return c.s.main, nil
}

// workspace makes a folder that a sandbox can be given; it is removed after the clause.
func (c *check) workspace() (string, error) {
	dir, err := c.s.workspace()
	if err != nil {
		return "", err
	}
	c.later(func(context.Context) { _ = os.RemoveAll(dir) })
	return dir, nil
}
