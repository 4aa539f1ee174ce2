package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func closeClauses() []clause {
	here := []need{needWorkspaces(), needProcess()}
	return []clause{
		{name: "close/delete", run: closeDelete,
			rule: "When Close with DELETE returns, the sandbox is in no List any more and its agent does not answer."},
		{name: "close/processes", needs: here, run: closeProcesses,
			rule: "When Close with DELETE returns, no process of the sandbox is left."},
		{name: "close/detached", needs: append([]need{needTree()}, here...), run: closeDetached,
			rule: "When Close with DELETE returns, also processes that left their session and their parents are gone."},
		{name: "close/idempotent", run: closeIdempotent,
			rule: "Close is idempotent: a sandbox that is gone is a success, in either mode."},
		{name: "close/keep", needs: []need{needProcess()}, run: closeKeep,
			rule: "Close with KEEP lets go of the sandbox and leaves it running; it can be attached to again."},
		{name: "close/calls-after", run: closeCallsAfter,
			rule: "Calls for a sandbox that is gone fail with SANDBOX_GONE."},
	}
}

func closeDelete(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	var direct *client.Client
	if needEndpoint().met(c.s) {
		c.step("reach the agent")
		if direct, err = sb.agent(ctx); err != nil {
			return err
		}
		if _, err := info(ctx, direct); err != nil {
			return err
		}
	}
	c.step("close the sandbox")
	if err := sb.delete(ctx); err != nil {
		return err
	}
	c.step("list by intent")
	if err := wantListed(ctx, sb); err != nil {
		return err
	}
	if direct == nil {
		return nil
	}
	c.step("reach the agent after Close")
	if _, err := info(ctx, direct); err == nil {
		return errors.New("the agent still answers")
	}
	return nil
}

// lifePipe is a pipe in a workspace on this machine whose only writers are processes of the sandbox: its end is the proof that
// they are dead, without a guess about process ids or time.
type lifePipe struct {
	reader *os.File
	name   string
}

func closeProcesses(ctx context.Context, c *check) error {
	return closeSees(ctx, c, `exec 3>"$1"; echo ready; exec sleep 1000`)
}

func closeDetached(ctx context.Context, c *check) error {
	return closeSees(ctx, c, `setsid sh -c '(exec 3>"$1"; echo ready; exec sleep 1000) & exit' sh "$1"; exec sleep 1000`)
}

func closeSees(ctx context.Context, c *check, script string) error {
	dir, err := c.workspace()
	if err != nil {
		return err
	}
	sb, err := c.connect(ctx, func(r *backendv1.ConnectRequest) { r.Spec.Workspace = dir })
	if err != nil {
		return err
	}
	c.step("start a process that holds a pipe in the workspace")
	p, err := openLife(dir)
	if err != nil {
		return err
	}
	defer p.reader.Close()
	r, err := startOn(ctx, pluginRoute{}, sb, order{action: shell(script, p.name)})
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.until(stdout, "ready\n"); err != nil {
		return err
	}
	c.step("see that it lives")
	dead, err := p.dead()
	if err != nil {
		return fmt.Errorf("the pipe in the given workspace %s: %w", dir, err)
	}
	if dead {
		return fmt.Errorf("the pipe in the given workspace %s is not the one in the sandbox", dir)
	}
	c.step("close the sandbox")
	if err := sb.delete(ctx); err != nil {
		return err
	}
	c.step("look for the process after Close")
	if dead, err := p.dead(); err != nil || !dead {
		return errors.Join(err, errors.New("the process lives on after Close has returned"))
	}
	return nil
}

func openLife(dir string) (*lifePipe, error) {
	path := filepath.Join(dir, "life")
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, err
	}
	// Non-blocking: neither the opening nor the look at it waits for a writer.
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &lifePipe{reader: os.NewFile(uintptr(fd), path), name: "life"}, nil
}

// dead reports whether nobody holds the writing end.
func (p *lifePipe) dead() (dead bool, err error) {
	conn, err := p.reader.SyscallConn()
	if err != nil {
		return false, err
	}
	var readErr error
	err = conn.Control(func(fd uintptr) {
		var n int
		n, readErr = syscall.Read(int(fd), make([]byte, 1))
		dead = n == 0 && readErr == nil
	})
	if errors.Is(readErr, syscall.EAGAIN) {
		readErr = nil
	}
	return dead, errors.Join(err, readErr)
}

func closeIdempotent(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	for i := range 2 {
		c.step("close the sandbox, call %d", i+1)
		if err := sb.delete(ctx); err != nil {
			return err
		}
	}
	c.step("let go of the sandbox that is gone")
	return sb.end(ctx, backendv1.CloseMode_CLOSE_MODE_KEEP)
}

func closeKeep(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	a, gate := gated(1, 1, 2)
	c.step("start an action")
	if _, err := readUntil(ctx, pluginRoute{}, sb, a, "line 1\n"); err != nil {
		return err
	}
	c.step("close with KEEP")
	if err := sb.end(ctx, backendv1.CloseMode_CLOSE_MODE_KEEP); err != nil {
		return err
	}
	c.step("attach to the sandbox that was kept")
	again, err := c.attach(ctx, sb.peer, sb)
	if err != nil {
		return err
	}
	if err := sameSandbox(ctx, c, sb, again); err != nil {
		return err
	}
	c.step("let the action go on")
	if err := pass(ctx, pluginRoute{}, again, gate); err != nil {
		return err
	}
	r, err := runOrder(ctx, pluginRoute{}, again, order{action: a, attach: true})
	if err != nil {
		return err
	}
	if got := string(r.output[stdout]); got != lines(1, 2) {
		return fmt.Errorf("want both lines, got %q", got)
	}
	return wantExit(r.last, 0)
}

func closeCallsAfter(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.step("close the sandbox")
	if err := sb.delete(ctx); err != nil {
		return err
	}
	calls := callsOfSandbox(sb.peer, sb.handle, sb.credential())
	for _, name := range []string{"Execute", "Interrupt", "Endpoint", "Renew", "Pause", "Resume"} {
		c.step("%s after Close", name)
		err := calls[name](ctx)
		if optional(name) && rterr.Is(err, rterr.Unsupported) {
			continue
		}
		if err := wantReason(err, rterr.SandboxGone); err != nil {
			return err
		}
	}
	return nil
}
