package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/pflag"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/daemon"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// The waits of the commands.
const (
	// showProgress is how long a creation may take before its steps are shown.
	showProgress = 500 * time.Millisecond
	// stopWithin bounds the end of a runtime that a command made for itself.
	stopWithin = 60 * time.Second
	// interruptWithin bounds the delivery of one interrupt.
	interruptWithin = 10 * time.Second
	// brokenKill is how long an action may go on after its output has nowhere to go and it was told to end.
	brokenKill = 5 * time.Second
	// rewatch is the pause before a cut watch is opened again.
	rewatch = 200 * time.Millisecond
)

// sandboxFlags say what a new sandbox shall be.
type sandboxFlags struct {
	backend, workspace string
	memory, cpus       string
	pids               uint32
	features           []string
}

func (s *sandboxFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&s.backend, "backend", "", "backend of the new runtime (default: the daemon's default backend)")
	f.StringVar(&s.workspace, "workspace", "", "folder of this machine to use as /workspace (default: a fresh one)")
	f.StringVar(&s.memory, "limit-memory", "", "memory of the new runtime, as 512M or 2G")
	f.StringVar(&s.cpus, "limit-cpus", "", "CPUs of the new runtime, as 0.5 or 2")
	f.Uint32Var(&s.pids, "limit-pids", 0, "processes of the new runtime")
	f.StringSliceVar(&s.features, "feature", nil, "what the new runtime shall have besides, as jupyter or agent_skills (can be repeated)")
}

func (s *sandboxFlags) set() bool { return !reflect.ValueOf(*s).IsZero() }

func (s *sandboxFlags) spec() (*backendv1.SandboxSpec, error) {
	spec := &backendv1.SandboxSpec{HeadlessMode: true, Features: s.features}
	if s.workspace != "" {
		path, err := filepath.Abs(s.workspace)
		if err != nil {
			return nil, rterr.Wrap(rterr.InvalidArgument, "--workspace", err)
		}
		spec.Workspace = path
	}
	limits := &backendv1.Limits{Pids: s.pids}
	var err error
	if limits.MemoryBytes, err = parseBytes("--limit-memory", s.memory); err != nil {
		return nil, err
	}
	if s.cpus != "" {
		cpus, err := strconv.ParseFloat(s.cpus, 64)
		if err != nil || !(cpus >= 0.001 && cpus <= 4096) {
			return nil, usagef("--limit-cpus: %q is no number of CPUs, as 0.5 or 2", s.cpus)
		}
		limits.CpuMillis = uint32(cpus*1000 + 0.5)
	}
	if limits.MemoryBytes != 0 || limits.CpuMillis != 0 || limits.Pids != 0 {
		spec.Limits = limits
	}
	return spec, nil
}

// parseBytes reads "512M", "2GiB", "100000"; units are powers of 1024. Empty is 0.
func parseBytes(flag, s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	number := strings.TrimRight(strings.ToUpper(s), "IB")
	shift := 0
	if i := strings.IndexByte("KMGT", lastByte(number)); i >= 0 {
		shift, number = 10*(i+1), number[:len(number)-1]
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
	if err != nil || n > (1<<63)>>shift {
		return 0, usagef("%s: %q is no size, as 512M or 2G", flag, s)
	}
	return n << shift, nil
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// newSid mints a session id for a runtime of the command line: chosen before the first try, so that a retry finds the runtime
// that the first one made.
func newSid() string { return "cli-" + strings.ToLower(rand.Text()) }

// create makes a runtime and waits until it is ready, showing its steps if that takes long. On an error, also ctx's, the
// runtime that was made is returned as far as it is known, for the caller to end; with nil there may still be one of req's sid.
func (a *app) create(ctx context.Context, req *runtimev1.CreateRuntimeRequest) (*runtimev1.Runtime, error) {
	d, err := a.dial()
	if err != nil {
		return nil, err
	}
	p := newProgress(a.env.Err, showProgress)
	defer p.done()
	resp, err := d.Runtimes.CreateRuntime(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, d.Explain("create runtime", err)
	}
	rt := resp.Msg.GetRuntime()
	p.show(statusText(rt))
	ready, err := a.ready(ctx, rt, p)
	if ready != nil {
		rt = ready
	}
	return rt, err
}

// ready waits until a runtime is READY, over cut connections too.
func (a *app) ready(ctx context.Context, rt *runtimev1.Runtime, p *progress) (*runtimev1.Runtime, error) {
	d, op := a.d, "start runtime "+rt.GetId()
	for {
		if done, err := settledState(op, rt); done || err != nil {
			return rt, err
		}
		stream, err := d.Runtimes.WatchRuntime(ctx, connect.NewRequest(&runtimev1.WatchRuntimeRequest{RuntimeId: rt.GetId()}))
		if err != nil {
			return rt, d.Explain(op, err)
		}
		var done bool
		rt, done, err = watchReady(op, stream, rt, p)
		if done || (err != nil && !daemon.Cut(err)) {
			return rt, explainUnlessOurs(d.Explain, op, err)
		}
		if err := pause(ctx, rewatch); err != nil {
			return rt, err
		}
		if rt, err = a.get(ctx, rt.GetId()); err != nil {
			return rt, err
		}
	}
}

func watchReady(op string, stream *connect.ServerStreamForClient[runtimev1.WatchRuntimeResponse], rt *runtimev1.Runtime, p *progress) (*runtimev1.Runtime, bool, error) {
	defer func() { _ = stream.Close() }() // what it would report, Err has reported
	for stream.Receive() {
		if fresh := stream.Msg().GetRuntime(); fresh != nil {
			rt = fresh
		}
		if step := stream.Msg().GetEvent().GetStep(); step != nil {
			p.show(stepText(step))
		} else {
			p.show(statusText(rt))
		}
		if done, err := settledState(op, rt); done || err != nil {
			return rt, true, err
		}
	}
	if err := stream.Err(); err != nil {
		return rt, false, err
	}
	return rt, false, io.ErrUnexpectedEOF
}

// settledState tells whether a runtime is ready, or why it will not be.
func settledState(op string, rt *runtimev1.Runtime) (bool, error) {
	switch rt.GetStatus() {
	case backendv1.RuntimeStatus_RUNTIME_STATUS_READY:
		return true, nil
	case backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR, backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR_RUNTIME_DISCONNECTED:
		if detail := rt.GetError(); detail != nil {
			return false, rterr.Wrap(rterr.Internal, op, rtwire.FromDetail(detail))
		}
		return false, rterr.New(rterr.Unavailable, op, "its status is %s: %s", runtimeStatus(rt), rt.GetMessage())
	case backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED:
		if rt.GetPhase() == backendv1.Phase_PHASE_GONE || rt.GetPhase() == backendv1.Phase_PHASE_FAILED {
			return false, rterr.New(rterr.SandboxGone, op, "it was stopped before it was ready")
		}
	}
	return false, nil
}

// stop ends a runtime that the command made for itself. It does not follow ctx's end but has a deadline of its own.
func (a *app) stop(ctx context.Context, id, sid string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	presses := 0
	defer a.handle(func(sig os.Signal) {
		if presses++; presses > 1 && sig != syscall.SIGWINCH { // the first may be left over from the action's own
			cancel()
		}
	})()
	if id == "" {
		resp, err := a.d.Runtimes.GetRuntime(ctx, connect.NewRequest(&runtimev1.GetRuntimeRequest{Sid: sid}))
		switch err = a.d.Explain("find runtime of session "+sid, err); {
		case rterr.Is(err, rterr.NotFound):
			return nil // it was never made
		case err != nil:
			return err
		}
		id = resp.Msg.GetRuntime().GetId()
	}
	_, err := a.d.Runtimes.StopRuntime(ctx, connect.NewRequest(&runtimev1.StopRuntimeRequest{RuntimeId: id}))
	err = a.d.Explain("stop runtime "+id, err)
	if err == nil || rterr.Is(err, rterr.NotFound, rterr.SandboxGone) {
		return nil
	}
	return rterr.From(err).WithRemedy("it may still run: end it with `openhands-rt runtimes stop " + id + "`")
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func explainUnlessOurs(explain func(string, error) error, op string, err error) error {
	if _, isOurs := errors.AsType[*rterr.Error](err); isOurs {
		return err
	}
	return explain(op, err)
}

// stopSaying is stop; what goes wrong is said at once, because another error decides the exit code.
func (a *app) stopSaying(ctx context.Context, rt *runtimev1.Runtime, sid string) {
	if err := a.stop(ctx, rt.GetId(), sid); err != nil {
		a.say(err)
	}
}
