package runtime

import (
	"context"
	"slices"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

func errorOf(v *runtimev1.Runtime) error { return rtwire.FromDetail(v.GetError()) }

// Get returns a runtime by id or sid, also a stopped one that is still kept.
func (m *Manager) Get(ctx context.Context, ref string) (*runtimev1.Runtime, error) {
	r, err := m.find(ctx, ref)
	if rterr.Is(err, rterr.NotFound) {
		return m.getStopped(ctx, ref, err)
	}
	if err != nil {
		return nil, err
	}
	return r.view(), nil
}

// getStopped looks for a runtime that is only in the registry any more.
func (m *Manager) getStopped(ctx context.Context, ref string, unknown error) (*runtimev1.Runtime, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	list, err := m.stopped(ctx, p)
	if err != nil {
		return nil, err
	}
	sortNewest(list)
	for _, match := range []func(*runtimev1.Runtime) string{(*runtimev1.Runtime).GetId, (*runtimev1.Runtime).GetSid} {
		for _, v := range list {
			if match(v) == ref {
				return v, nil
			}
		}
	}
	return nil, unknown
}

// List returns the principal's runtimes, newest first; with all, those too that have stopped and are still kept.
func (m *Manager) List(ctx context.Context, all bool) ([]*runtimev1.Runtime, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	var out []*runtimev1.Runtime
	if all {
		if out, err = m.stopped(ctx, p); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Those in memory are ahead of the registry.
	out = slices.DeleteFunc(out, func(v *runtimev1.Runtime) bool { return m.runtimes[v.GetId()] != nil })
	for _, r := range m.runtimes {
		if r.principal() == p.ID && (all || r.status().Live()) {
			out = append(out, r.view())
		}
	}
	sortNewest(out)
	return out, nil
}

// stopped returns the principal's stopped runtimes that the registry has.
func (m *Manager) stopped(ctx context.Context, p Principal) ([]*runtimev1.Runtime, error) {
	records, err := m.opts.Registry.Stopped(ctx, p.ID)
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "read the registry", err)
	}
	out := make([]*runtimev1.Runtime, len(records))
	for i, rec := range records {
		out[i] = rec.Runtime
		out[i].Url = m.opts.SandboxURL(out[i].GetId())
	}
	return out, nil
}

// Watch calls send with the present state, then with each change, until the runtime has stopped, ctx ends or send fails.
func (m *Manager) Watch(ctx context.Context, ref string, send func(*runtimev1.WatchRuntimeResponse) error) error {
	r, err := m.find(ctx, ref)
	if err != nil {
		return err
	}
	w, err := m.hub.watch(r.id)
	if err != nil {
		return err
	}
	defer w.close()
	for v, ev := r.view(), (*runtimev1.RuntimeEvent)(nil); ; v = r.view() {
		if err := send(&runtimev1.WatchRuntimeResponse{Runtime: v, Event: ev}); err != nil {
			return err
		}
		if !live(v) {
			return nil
		}
		if ev, err = w.next(ctx); err != nil {
			return rterr.Wrap(rterr.Cancelled, "watch runtime "+r.id, err)
		}
	}
}

// Pause freezes a runtime.
func (m *Manager) Pause(ctx context.Context, ref string) (*runtimev1.Runtime, error) {
	return m.with(ctx, ref, func(r *Runtime) error { return r.pause(ctx) })
}

// Resume lets a paused runtime go on.
func (m *Manager) Resume(ctx context.Context, ref string) (*runtimev1.Runtime, error) {
	return m.with(ctx, ref, func(r *Runtime) error { return r.resume(ctx) })
}

// Stop ends a runtime. It goes on when ctx ends: half a closing helps nobody.
func (m *Manager) Stop(ctx context.Context, ref string, keep bool) (*runtimev1.Runtime, error) {
	return m.with(ctx, ref, func(r *Runtime) error { return r.close(context.WithoutCancel(ctx), keep) })
}

func (m *Manager) with(ctx context.Context, ref string, do func(*Runtime) error) (*runtimev1.Runtime, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := do(r); err != nil {
		return nil, err
	}
	return r.view(), nil
}

// Endpoint returns the URL of a port.
func (m *Manager) Endpoint(ctx context.Context, ref string, port uint32) (*runtimev1.GetEndpointResponse, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if port == 0 || port > 65535 {
		return nil, rterr.Invalid("endpoint", "port", "must be 1 to 65535")
	}
	return r.endpoint(port), nil
}

// Ports returns the ports on which something in a runtime listens, sorted.
func (m *Manager) Ports(ctx context.Context, ref string) ([]*runtimev1.OpenPort, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	f, err := r.files(ctx)
	if err != nil {
		return nil, err
	}
	found, err := f.ListPorts(ctx, &agentv1.ListPortsRequest{})
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "list ports of runtime "+r.id, err)
	}
	ports := slices.Sorted(slices.Values(found.GetPorts()))
	out := make([]*runtimev1.OpenPort, len(ports))
	for i, port := range ports {
		out[i] = &runtimev1.OpenPort{Port: port, Url: r.endpoint(port).GetUrl()}
	}
	return out, nil
}

// VSCodeURL returns the URL of a runtime's VSCode.
func (m *Manager) VSCodeURL(ctx context.Context, ref string) (string, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return "", err
	}
	return r.vscodeURL(ctx)
}

// Backends returns the configured backends with the number of their live runtimes.
func (m *Manager) Backends(ctx context.Context) ([]*runtimev1.Backend, error) {
	if _, err := principal(ctx); err != nil {
		return nil, err
	}
	counts := map[string]uint32{}
	m.mu.Lock()
	for _, r := range m.runtimes {
		if r.status().Live() {
			counts[r.backendName()]++
		}
	}
	m.mu.Unlock()
	list := m.opts.Backends.List()
	for _, b := range list {
		b.Runtimes = counts[b.GetName()]
		b.IsDefault = b.GetName() == m.opts.Backends.Default()
	}
	return list, nil
}

// maxListed is the most entries that one call lists.
const maxListed = 1000

// Execute starts an action, or attaches to it if its id is known, and returns its events. The action goes on when the stream is
// closed or ctx ends.
func (m *Manager) Execute(ctx context.Context, ref string, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	return m.actions.execute(ctx, r, req)
}

// Attach streams a known action from the wanted offsets on. Without ref the action is looked for in all of the caller's runtimes.
func (m *Manager) Attach(ctx context.Context, ref, id string, mode agentv1.OutputMode, from []*agentv1.OutputCursor) (agent.Stream, error) {
	r, x, entry, err := m.locate(ctx, ref, id)
	if err != nil {
		return nil, err
	}
	if x != nil {
		return m.actions.join(ctx, x, mode, from), nil
	}
	return m.actions.attach(ctx, r, entry, mode, from), nil
}

// locate finds an action and its runtime.
func (m *Manager) locate(ctx context.Context, ref, id string) (*Runtime, *execution, ActionEntry, error) {
	if ref == "" {
		var err error
		if ref, err = m.runtimeOf(ctx, id); err != nil {
			return nil, nil, ActionEntry{}, err
		}
	}
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, nil, ActionEntry{}, err
	}
	x, entry, err := m.actions.find(ctx, r, id)
	return r, x, entry, err
}

// runtimeOf returns the runtime of an action that is named by its id alone.
func (m *Manager) runtimeOf(ctx context.Context, id string) (string, error) {
	p, err := principal(ctx)
	if err != nil {
		return "", err
	}
	if owner := m.actions.ownerOf(p.ID, id); owner != "" {
		return owner, nil
	}
	entries, err := m.opts.Journal.Find(ctx, p.ID, id)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return entries[0].Runtime, nil
	}
	return "", rterr.New(rterr.NotFound, "", "no action %q", id).WithRan(rterr.RanNo)
}

// Action returns what is known of an action.
func (m *Manager) Action(ctx context.Context, ref, id string) (*runtimev1.ActionInfo, error) {
	_, _, entry, err := m.locate(ctx, ref, id)
	if err != nil {
		return nil, err
	}
	return info(entry), nil
}

func info(e ActionEntry) *runtimev1.ActionInfo {
	return &runtimev1.ActionInfo{RuntimeId: e.Runtime, Generation: e.Generation, Record: e.Record}
}

// Actions returns the actions of a runtime, or of all of the caller's if ref is empty, newest first, without their payloads.
func (m *Manager) Actions(ctx context.Context, ref string, active bool, limit int) ([]*runtimev1.ActionInfo, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	id := ""
	if ref != "" {
		r, err := m.find(ctx, ref)
		if err != nil {
			return nil, err
		}
		id = r.id
	}
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	entries, err := m.opts.Journal.List(ctx, p.ID, id, active, limit)
	if err != nil {
		return nil, err
	}
	out := make([]*runtimev1.ActionInfo, len(entries))
	for i, e := range entries {
		out[i] = info(e)
		if e.Record.GetObservation() != nil {
			out[i].Record = cloneRecord(e.Record)
			out[i].Record.Observation.Payload = nil
		}
	}
	return out, nil
}

// Interrupt signals a running action, or withdraws a queued one.
func (m *Manager) Interrupt(ctx context.Context, ref, id string, level agentv1.InterruptLevel) (bool, error) {
	r, _, _, err := m.locate(ctx, ref, id)
	if err != nil {
		return false, err
	}
	return m.actions.interrupt(ctx, r, id, level)
}

// Input writes to a running action.
func (m *Manager) Input(ctx context.Context, ref string, req *agentv1.InputRequest) (uint64, error) {
	t, err := m.terminal(ctx, ref, req.GetActionId())
	if err != nil {
		return 0, err
	}
	answer, err := t.Input(ctx, req)
	return answer.GetNextOffset(), err
}

// Resize sets the size of a running action's terminal.
func (m *Manager) Resize(ctx context.Context, ref string, req *agentv1.ResizeRequest) error {
	t, err := m.terminal(ctx, ref, req.GetActionId())
	if err != nil {
		return err
	}
	_, err = t.Resize(ctx, req)
	return err
}

// terminal returns the way to an active action's input, once its agent has it.
func (m *Manager) terminal(ctx context.Context, ref, id string) (Terminal, error) {
	_, x, _, err := m.locate(ctx, ref, id)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, rterr.New(rterr.IllegalState, "input", "action %s has ended", id).With("state", "done")
	}
	select {
	case <-x.started:
	case <-x.done:
		return nil, rterr.New(rterr.IllegalState, "input", "action %s has ended", id).With("state", "done")
	case <-ctx.Done():
		return nil, rterr.Wrap(rterr.Cancelled, "input", context.Cause(ctx))
	}
	exec, err := x.gen.executor(ctx)
	if err != nil {
		return nil, err
	}
	t, ok := exec.(Terminal)
	if !ok {
		return nil, rterr.New(rterr.Unsupported, "input", "the host cannot reach this sandbox itself")
	}
	return t, nil
}

// Transfer returns the way to a runtime's files for one transfer; call done when it has ended. Too many at once wait for their
// turn.
func (m *Manager) Transfer(ctx context.Context, ref string) (f Files, done func(), err error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	turn, err := r.transfers.enter()
	if err != nil {
		return nil, nil, err
	}
	if err := turn.wait(ctx); err != nil {
		return nil, nil, err
	}
	if f, err = r.files(ctx); err != nil {
		turn.release()
		return nil, nil, err
	}
	return f, turn.release, nil
}

// Files returns the way to a runtime's files and ports, for small calls.
func (m *Manager) Files(ctx context.Context, ref string) (Files, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	return r.files(ctx)
}

func (r *Runtime) files(ctx context.Context) (Files, error) {
	gen, err := r.admit(ctx)
	if err != nil {
		return nil, err
	}
	exec, err := gen.executor(ctx)
	if err != nil {
		return nil, err
	}
	f, ok := exec.(Files)
	if !ok {
		return nil, rterr.New(rterr.Unsupported, "files", "the host cannot reach this sandbox itself")
	}
	return f, nil
}

// Sandbox returns the way to what a runtime serves, for a request that shows the runtime's session key instead of a principal.
// An unknown runtime and a wrong key look the same.
func (m *Manager) Sandbox(ctx context.Context, id, sessionKey string) (Files, error) {
	ctx, _, err := m.Session(ctx, id, sessionKey)
	if err != nil {
		return nil, err
	}
	return m.Files(ctx, id)
}

// Recovered tells the watchers of a runtime about an attempt of the recovery policy.
func (m *Manager) Recovered(runtimeID string, attempt *runtimev1.RecoveryAttempt) {
	m.hub.publish(&runtimev1.RuntimeEvent{RuntimeId: runtimeID, Event: &runtimev1.RuntimeEvent_Recovery{Recovery: attempt}})
}

// Counts returns the number of live runtimes by status, and of active actions, for metrics.
func (m *Manager) Counts() (byStatus map[string]int, active int) {
	byStatus = map[string]int{}
	m.mu.Lock()
	for _, r := range m.runtimes {
		byStatus[r.status().String()]++
	}
	m.mu.Unlock()
	m.actions.mu.Lock()
	defer m.actions.mu.Unlock()
	return byStatus, len(m.actions.active)
}

// Idle blocks until no action is active, or ctx ends.
func (m *Manager) Idle(ctx context.Context) error {
	for {
		m.actions.mu.Lock()
		active, ended := len(m.actions.active), m.actions.ended
		m.actions.mu.Unlock()
		if active == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
