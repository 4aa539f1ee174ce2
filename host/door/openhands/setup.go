package openhands

import (
	"context"
	"encoding/json"
	"path"
	"strconv"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// setup is what OpenHands' own server does in its shell before it is alive, done once per generation of a runtime.
type setup struct {
	generation uint64
	done       chan struct{}
	err        error // once done
}

// setupID names the action, so that a new life of the host finds that it has been done.
func setupID(generation uint64) string { return "v0-setup-" + strconv.FormatUint(generation, 10) }

// setupCommand begins as the original's does: git without a pager, then the working directory. The alias is for later shells too.
func setupCommand(dir string) string {
	const alias = `alias git="git --no-pager"`
	quoted := "'" + strings.ReplaceAll(dir, "'", `'\''`) + "'"
	return alias + ` && { grep -qsxF '` + alias + `' ~/.bashrc || echo '` + alias + `' >> ~/.bashrc; }` +
		" && mkdir -p -- " + quoted + " && cd -- " + quoted
}

// workingDir is where the shell of a runtime begins. Where the workspace cannot be mounted, /workspace is the workspace's own folder.
func workingDir(v *runtimev1.Runtime) string {
	dir := v.GetLabels()[labelWorkingDir]
	if !path.IsAbs(dir) || path.Clean(dir) == sandbox.WorkspacePath {
		return v.GetWorkspace()
	}
	return path.Clean(dir)
}

// prepare does the set-up of a runtime that this door has started, if it is not done, and waits for its end or ctx. The error says
// why it failed for good, or why it is not done yet (passing).
func (d *Door) prepare(ctx context.Context, v *runtimev1.Runtime) error {
	s := d.setup(ctx, v)
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return rterr.Wrap(rterr.Cancelled, "set up runtime "+v.GetId(), context.Cause(ctx))
	}
}

// prepared is prepare without waiting.
func (d *Door) prepared(ctx context.Context, v *runtimev1.Runtime) error {
	s := d.setup(ctx, v)
	select {
	case <-s.done:
		return s.err
	default:
		return rterr.New(rterr.Unavailable, "", "runtime %s is being set up", v.GetId())
	}
}

// passing: it may succeed the next time.
func passing(err error) bool {
	return rterr.Is(err, rterr.Cancelled, rterr.Timeout, rterr.Network, rterr.SandboxUnreachable, rterr.PluginUnavailable,
		rterr.Unavailable, rterr.LimitExceeded, rterr.SandboxPaused, rterr.IllegalState)
}

// setup returns the set-up of the present generation, begun at the latest now.
func (d *Door) setup(ctx context.Context, v *runtimev1.Runtime) *setup {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.setups[v.GetId()]; s != nil && s.generation == v.GetGeneration() && !s.again() {
		return s
	}
	s := &setup{generation: v.GetGeneration(), done: make(chan struct{})}
	d.forgetStoppedLocked(ctx)
	d.setups[v.GetId()] = s
	if v.GetLabels()[labelDoor] != doorV0 {
		close(s.done)
		return s
	}
	if d.ctx.Err() != nil {
		s.err = rterr.New(rterr.Unavailable, "", "the daemon is stopping")
		close(s.done)
		return s
	}
	d.tasks.Go(func() {
		defer close(s.done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), setupLimit)
		defer cancel()
		defer context.AfterFunc(d.ctx, cancel)()
		s.err = d.runSetup(ctx, v)
	})
	return s
}

// again: it has failed for a passing reason.
func (s *setup) again() bool {
	select {
	case <-s.done:
		return s.err != nil && passing(s.err)
	default:
		return false
	}
}

// maxSetups is when runtimes that are no more are looked for.
const maxSetups = 1000

func (d *Door) forgetStoppedLocked(ctx context.Context) {
	if len(d.setups) < maxSetups {
		return
	}
	for id := range d.setups {
		if _, v, err := d.m.Exposed(ctx, id); err != nil || !live(v) {
			delete(d.setups, id)
			delete(d.seeds, id)
		}
	}
}

// runSetup runs the command, or finds that it has run.
func (d *Door) runSetup(ctx context.Context, v *runtimev1.Runtime) error {
	payload, err := json.Marshal(action.Run{Command: setupCommand(workingDir(v)), Blocking: true})
	if err != nil {
		return rterr.Wrap(rterr.Internal, "set up", err)
	}
	obs, err := d.run(ctx, v.GetId(), &agentv1.Action{Id: setupID(v.GetGeneration()), Kind: action.KindRun, Payload: payload})
	switch {
	case err != nil:
		return err
	case obs.GetError() != nil:
		return rtwire.FromDetail(obs.GetError())
	case obs.ExitCode == nil || obs.GetExitCode() != 0:
		var said action.RunObservation
		_ = json.Unmarshal(obs.GetPayload(), &said) // for people
		return rterr.New(rterr.Provider, "set up runtime "+v.GetId(), "the shell's working directory %s cannot be made: %s",
			workingDir(v), said.Content)
	}
	return nil
}

// run executes an action, or attaches to it, and returns its observation.
func (d *Door) run(ctx context.Context, id string, a *agentv1.Action) (*agentv1.Observation, error) {
	stream, err := d.m.Execute(ctx, id, &agentv1.ExecuteRequest{Action: a, Output: agentv1.OutputMode_OUTPUT_MODE_NONE})
	if err != nil {
		return nil, err
	}
	defer stream.Close() //nolint:errcheck // closing a read side
	for {
		ev, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if ev.GetObservation() != nil {
			return ev.GetObservation(), nil
		}
	}
}
