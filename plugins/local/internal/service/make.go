package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/config"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/spawn"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// make makes the sandbox of an intent, or finds it. Whatever it made is gone again if it fails.
func (s *Service) make(set *settings, req *backendv1.ConnectRequest, p progress) error {
	ctx := p.Context()
	limits, workspace, err := set.check(req)
	if err != nil {
		return err
	}
	id := folder.ID(set.owner, req.GetIntentId())
	leave, err := s.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	lock, err := set.root.Lock(id, true)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := p.status(backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME); err != nil {
		_ = os.Remove(set.root.Path(id)) // The folder that the lock made; one with a sandbox in it stays.
		return err
	}
	if old, err := set.root.Read(id); err == nil {
		if done, err := s.again(ctx, set, req, old, p); done {
			return err
		}
		if lock, err = relock(set, id, lock); err != nil {
			return err
		}
		defer lock.Close()
	}
	b := &build{s: s, set: set, req: req, p: p, limits: limits, meta: newMeta(set, req, id, workspace)}
	if err := b.run(ctx); err != nil {
		return errors.Join(err, b.undo(ctx))
	}
	return nil
}

// relock takes the lock of the folder that stands in the place of a removed one.
func relock(set *settings, id string, old *folder.Lock) (*folder.Lock, error) {
	old.Close()
	return set.root.Lock(id, true)
}

// again connects to what an earlier try of the same intent made; done is false if nothing usable was left, and all of it is
// removed then.
func (s *Service) again(ctx context.Context, set *settings, req *backendv1.ConnectRequest, m folder.Meta, p progress) (done bool, err error) {
	if m.Ready && alive(m) {
		err := s.confirm(ctx, m, req.GetAgentCredential())
		if err == nil {
			return true, s.welcome(ctx, set, req, m, p)
		}
		if !rterr.Is(err, rterr.SandboxGone) {
			return true, err
		}
	}
	if err := s.destroy(ctx, set, m, nil); err != nil {
		return true, err
	}
	return false, nil
}

func newMeta(set *settings, req *backendv1.ConnectRequest, id, workspace string) folder.Meta {
	m := folder.Meta{
		SandboxID: id, Owner: set.owner, Backend: set.backend, RuntimeID: req.GetRuntimeId(), SID: req.GetSid(),
		IntentID: req.GetIntentId(), Generation: req.GetGeneration(), Labels: req.GetSpec().GetLabels(), CreatedAt: time.Now().UTC(),
		Workspace: workspace, Given: workspace != "", Mounted: set.mounted, Cgroup: cgroupName(set, id),
		Socket: set.root.Path(id, "agent.sock"), Nonce: rand.Text(), Username: cmp.Or(req.GetSpec().GetUsername(), username()),
	}
	if !m.Given {
		m.Workspace = set.root.Path(id, "workspace")
	}
	return m
}

// build is the making of one sandbox.
type build struct {
	s      *Service
	set    *settings
	req    *backendv1.ConnectRequest
	p      progress
	limits sandbox.Limits
	meta   folder.Meta
	groups sandbox.Groups
	proc   *spawn.Process
	// python is the interpreter of kernels, empty for the first one on PATH.
	python string
}

func (b *build) run(ctx context.Context) error {
	if err := b.p.run(stepWorkspace, b.folders); err != nil {
		return err
	}
	if err := b.p.run(stepNamespace, b.place); err != nil {
		return err
	}
	if err := b.findPython(ctx); err != nil {
		return err
	}
	if err := b.p.run(stepAgent, b.start); err != nil {
		return err
	}
	if err := b.p.status(backendv1.RuntimeStatus_RUNTIME_STATUS_RUNTIME_STARTED); err != nil {
		return err
	}
	if err := b.p.run(stepReady, func() (string, error) { return "", b.ready(ctx) }); err != nil {
		return err
	}
	if err := b.p.status(backendv1.RuntimeStatus_RUNTIME_STATUS_READY); err != nil {
		return err
	}
	return b.p.connected(b.set, b.meta, false)
}

// folders makes the folders, and first the record: what dies from here on is found again by it.
func (b *build) folders() (string, error) {
	boot, err := sandbox.BootID()
	if err != nil {
		return "", err
	}
	b.meta.BootID = boot
	if err := b.set.root.Write(b.meta); err != nil {
		return "", err
	}
	for _, name := range []string{"state", "home", "workspace", "root"} {
		if err := os.Mkdir(b.set.root.Path(b.meta.SandboxID, name), 0o700); err != nil {
			return "", err
		}
	}
	return b.meta.Workspace, nil
}

// place makes the cgroups; the mount namespace comes with the agent.
func (b *build) place() (string, error) {
	groups, err := b.set.placement.Make(b.meta.Cgroup, b.limits)
	if err != nil {
		return "", err
	}
	b.groups = groups
	if !b.meta.Mounted {
		return "no mount namespace: " + b.set.why, nil
	}
	return "", nil
}

func (b *build) start() (string, error) {
	set, m := b.set, &b.meta
	workspace, home := seen(set, *m)
	req := spawn.Request{
		Binary: set.AgentBinary, Args: set.AgentArgs, Env: []string{marker(*m), "PATH=" + inherited()["PATH"]}, Dir: set.root.Path(m.SandboxID),
		Log: set.root.Path(m.SandboxID, "agent.log"), Cgroup: b.groups.Agent, Spec: b.spec(workspace, home),
	}
	if m.Mounted {
		req.Root = &sandbox.RootSpec{Scratch: scratch(set, m.SandboxID), Workspace: m.Workspace, Home: set.root.Path(m.SandboxID, "home")}
		if m.Username != username() {
			req.Root.Username = m.Username
		}
	}
	proc, err := spawn.Start(req)
	if err != nil {
		return "", err
	}
	b.proc = proc
	m.PID, m.StartTime = proc.PID, proc.StartTime
	return "pid " + strconv.Itoa(proc.PID), set.root.Write(*m)
}

func (b *build) spec(workspace, home string) spawn.Spec {
	env := inherited()
	for _, from := range []map[string]string{b.set.Env, b.req.GetSpec().GetEnv(), {sandboxVariable: b.meta.SandboxID}} {
		for name, value := range from {
			env[name] = value
		}
	}
	return spawn.Spec{
		Schema: spawn.SpecSchema, Socket: b.meta.Socket, StateDir: b.set.root.Path(b.meta.SandboxID, "state"),
		Workspace: workspace, Home: home, Username: b.meta.Username, SandboxID: b.meta.SandboxID, RuntimeID: b.meta.RuntimeID,
		Generation: b.meta.Generation, Nonce: b.meta.Nonce, Credential: b.req.GetAgentCredential(), Env: env,
		Features: b.req.GetSpec().GetFeatures(), Python: b.python, Lease: b.lease().String(), Cgroup: b.groups.Tree, LimitGroups: b.groups.Limits,
		LogFile: b.set.root.Path(b.meta.SandboxID, "agent.log"), ReadyFD: spawn.ReadyFD,
	}
}

// findPython finds what kernels need if they are asked for. Without it a sandbox is of use all the same: only cells fail, and say why.
func (b *build) findPython(ctx context.Context) error {
	b.python = b.set.Python
	if b.python != "" || !slices.Contains(b.req.GetSpec().GetFeatures(), featureJupyter) {
		return nil
	}
	if err := b.p.step(stepPython, backendv1.StepState_STEP_STATE_STARTED, "the first time it is fetched"); err != nil {
		return rterr.Wrap(rterr.Cancelled, stepPython, err)
	}
	found, err := b.set.base.Interpreter(ctx, b.path())
	if ctx.Err() != nil {
		return rterr.Wrap(rterr.Cancelled, stepPython, ctx.Err())
	}
	if err != nil {
		b.s.log.Warn("cells of Python will fail", "runtime", b.req.GetRuntimeId(), "error", err)
		return b.p.step(stepPython, backendv1.StepState_STEP_STATE_DONE, "none: "+err.Error())
	}
	b.python = found
	return b.p.step(stepPython, backendv1.StepState_STEP_STATE_DONE, found)
}

// path is the sandbox's PATH.
func (b *build) path() string {
	for _, from := range []map[string]string{b.req.GetSpec().GetEnv(), b.set.Env, inherited()} {
		if path, ok := from["PATH"]; ok {
			return path
		}
	}
	return ""
}

func (b *build) lease() time.Duration {
	if lease := b.req.GetLease().AsDuration(); lease > 0 {
		return lease
	}
	return b.set.Lease
}

// ready waits until the agent serves, and makes sure that it is ours.
func (b *build) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	if err := b.proc.Ready(ctx); err != nil {
		return err
	}
	if err := b.s.confirm(ctx, b.meta, b.req.GetAgentCredential()); err != nil {
		return err
	}
	b.meta.Ready, b.meta.LeaseUntil = true, time.Now().Add(b.lease()).UTC()
	if err := b.set.root.Write(b.meta); err != nil {
		return err
	}
	b.s.watch(b.set, b.meta)
	return nil
}

// undo removes all that was made. The caller is gone or has its error, so this has a limit of its own.
func (b *build) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWait)
	defer cancel()
	return b.s.destroy(ctx, b.set, b.meta, nil)
}

// seen returns the workspace and HOME as the sandbox sees them.
func seen(set *settings, m folder.Meta) (workspace, home string) {
	if m.Mounted {
		return sandbox.WorkspacePath, sandbox.HomePath
	}
	return m.Workspace, set.root.Path(m.SandboxID, "home")
}

// username returns whom everything in a sandbox runs as: at this level, the daemon's own user. Inside it may have another name.
func username() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// passed are the variables of the plugin that sandboxes get too; PATH has a fallback. The agent itself gets none.
const (
	passed      = "PATH LANG LC_ALL LC_CTYPE TZ SSL_CERT_FILE SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy"
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// inherited returns the variables that every sandbox gets.
func inherited() map[string]string {
	env := map[string]string{"PATH": defaultPath}
	for _, name := range strings.Fields(passed) {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	return env
}

// check refuses what cannot be made, before anything is. It returns the limits, and the given workspace's real path.
func (set *settings) check(req *backendv1.ConnectRequest) (sandbox.Limits, string, error) {
	spec := req.GetSpec()
	switch {
	case req.GetIntentId() == "":
		return sandbox.Limits{}, "", rterr.Invalid("", "intent_id", "is required")
	case spec.GetImage() != "":
		return sandbox.Limits{}, "", unsupported("spec.image", "sandboxes of this machine have no images")
	}
	if err := set.checkUsername(spec.GetUsername()); err != nil {
		return sandbox.Limits{}, "", err
	}
	if options := strings.TrimSpace(string(spec.GetOptions())); options != "" && options != "{}" {
		return sandbox.Limits{}, "", rterr.Invalid("", "spec.options", "this backend has none")
	}
	for name, value := range spec.GetEnv() {
		if err := config.CheckVariable(name, value); err != nil {
			return sandbox.Limits{}, "", rterr.Invalid("", "spec.env", "%v", err)
		}
	}
	limits, err := set.limits(spec.GetLimits())
	if err != nil {
		return limits, "", err
	}
	workspace, err := set.workspace(spec.GetWorkspace())
	return limits, workspace, err
}

// checkUsername allows the daemon's own user, and any name for it that the sandbox's own root can give it.
func (set *settings) checkUsername(name string) error {
	if name == "" || name == username() {
		return nil
	}
	if !set.mounted {
		return unsupported("spec.username", "everything runs as "+username()+" at this level")
	}
	if err := sandbox.CheckUsername(name); err != nil {
		return unsupported("spec.username", err.Error())
	}
	return nil
}

func unsupported(field, detail string) error {
	return rterr.New(rterr.Unsupported, "", "%s", detail).WithField(field).WithRan(rterr.RanNo)
}

// limits returns those that were asked for, each refused if it cannot be enforced, else the configured ones.
func (set *settings) limits(asked *backendv1.Limits) (sandbox.Limits, error) {
	l := set.Limits
	if asked.GetDiskBytes() > 0 {
		return l, unsupported("spec.limits.disk_bytes", "the disk cannot be limited on this machine")
	}
	for _, c := range []struct {
		limit, field string
		asked        bool
		set          func()
	}{
		{sandbox.LimitMemory, "memory_bytes", asked.GetMemoryBytes() > 0, func() { l.MemoryBytes = asked.GetMemoryBytes() }},
		{sandbox.LimitCPU, "cpu_millis", asked.GetCpuMillis() > 0, func() { l.CPUMillis = asked.GetCpuMillis() }},
		{sandbox.LimitPids, "pids", asked.GetPids() > 0, func() { l.Pids = asked.GetPids() }},
	} {
		if c.asked && !set.placement.Can(c.limit) {
			return l, unsupported("spec.limits."+c.field, c.limit+" cannot be limited on this machine")
		}
		if c.asked {
			c.set()
		}
	}
	return l, nil
}

// workspace checks a folder that a client names.
func (set *settings) workspace(named string) (string, error) {
	const field = "spec.workspace"
	if named == "" {
		return "", nil
	}
	if !set.AllowWorkspace {
		return "", rterr.New(rterr.PermissionDenied, "", "folders of this machine may not be used as workspaces").WithField(field).WithRan(rterr.RanNo)
	}
	if !filepath.IsAbs(named) {
		return "", rterr.Invalid("", field, "%q is not an absolute path", named)
	}
	real, err := filepath.EvalSymlinks(named)
	if err != nil {
		return "", rterr.Invalid("", field, "%v", err)
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return "", rterr.Invalid("", field, "%q is no folder", named)
	}
	if set.WorkspaceRoot != "" && !strings.HasPrefix(real+"/", strings.TrimSuffix(set.WorkspaceRoot, "/")+"/") {
		return "", rterr.New(rterr.PermissionDenied, "", "%q is not below %s", named, set.WorkspaceRoot).WithField(field).WithRan(rterr.RanNo)
	}
	return real, nil
}
