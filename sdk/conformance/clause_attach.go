package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func attachClauses() []clause {
	return []clause{
		{name: "attach/handle", run: attachHandle,
			rule: "Connect with a handle attaches to that very sandbox, says so, and makes no second one."},
		{name: "attach/status-order", run: attachOrder,
			rule: "The statuses of an attach follow the table of statuses, from being disconnected on."},
		{name: "attach/other-process", needs: []need{needCommand()}, run: attachOther,
			rule: "The handle and Configure are all that another process of the plugin needs to attach."},
		{name: "attach/gone", run: attachGone,
			rule: "Attaching to a sandbox that no longer exists fails with SANDBOX_GONE and makes none."},
		{name: "attach/newer-schema", run: attachNewer,
			rule: "A handle of a schema newer than known is refused with INTEGRITY, and the sandbox stays as it was."},
		{name: "attach/paused", needs: []need{needPause()}, run: attachPaused,
			rule: "Attaching to a paused sandbox resumes it."},
	}
}

func attachHandle(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("attach by the handle")
	again, err := c.attach(ctx, sb.peer, sb)
	if err != nil {
		return err
	}
	return sameSandbox(ctx, c, sb, again)
}

func sameSandbox(ctx context.Context, c *check, sb, again *sandbox) error {
	if again.id() != sb.id() {
		return fmt.Errorf("attached to %s, the handle was of %s", again.id(), sb.id())
	}
	if !again.connected.GetAttached() {
		return errors.New("Connected does not say attached")
	}
	c.step("list by intent after attaching")
	return wantListed(ctx, again, sb.id())
}

func attachOrder(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("attach by the handle")
	again, err := c.attach(ctx, sb.peer, sb)
	if err != nil {
		return err
	}
	return checkOrder(again.trace.statuses(), true)
}

func attachOther(ctx context.Context, c *check) error {
	first, err := c.configured(ctx)
	if err != nil {
		return err
	}
	sb, err := c.connectOn(ctx, first)
	if err != nil {
		return err
	}
	c.step("stop the plugin")
	if err := first.plugin.Stop(); err != nil {
		return err
	}
	second, err := c.relaunch(ctx, first)
	if err != nil {
		return err
	}
	c.step("configure")
	if _, err := c.s.configure(ctx, second, c.s.target.Config); err != nil {
		return wire(err)
	}
	c.step("attach through the new process")
	again, err := c.attach(ctx, second, sb)
	if err != nil {
		return err
	}
	return sameSandbox(ctx, c, sb, again)
}

func attachGone(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("close the sandbox")
	if err := sb.delete(ctx); err != nil {
		return err
	}
	c.step("attach to what is gone")
	t := follow(ctx, sb.peer, sb.attachRequest())
	if err := wantReason(t.err, rterr.SandboxGone); err != nil {
		return err
	}
	c.step("list by intent")
	return wantListed(ctx, sb)
}

func attachNewer(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("attach with a newer schema")
	req := sb.attachRequest()
	req.Handle = proto.CloneOf(sb.handle)
	req.Handle.Schema = math.MaxUint32
	if err := wantReason(follow(ctx, sb.peer, req).err, rterr.Integrity); err != nil {
		return err
	}
	return c.stillThere(ctx, sb)
}

func attachPaused(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("pause")
	if _, err := sb.Pause(ctx, &backendv1.PauseRequest{Handle: sb.handle, AgentCredential: sb.credential()}); err != nil {
		return wire(err)
	}
	c.step("attach to the paused sandbox")
	again, err := c.attach(ctx, sb.peer, sb)
	if err != nil {
		return err
	}
	return c.stillThere(ctx, again)
}
