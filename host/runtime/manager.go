package runtime

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// SessionKeyHeader carries a runtime's session key to what is below its URL.
const SessionKeyHeader = "X-Session-API-Key"

func portPath(port uint32) string { return "/ports/" + strconv.FormatUint(uint64(port), 10) }

// Options are what a Manager needs. All of them are required.
type Options struct {
	Registry Registry
	Journal  Journal
	Events   EventLog
	// LastSequence is that of the newest event in the log.
	LastSequence uint64
	Backends     Backends
	Recover      Recoverer
	Dial         Dialer
	Answers      Answerer
	Metrics      Metrics
	Logger       hclog.Logger
	Limits       Limits
	Waits        Waits
	// Lease of new sandboxes.
	Lease time.Duration
	// Recreate: a sandbox that is gone is replaced by a new one; otherwise the runtime stays ERROR_RUNTIME_DISCONNECTED.
	Recreate bool
	// SandboxURL is the URL of a runtime on the sandbox listener, without a trailing slash.
	SandboxURL func(runtimeID string) string
}

// Manager is the registry of runtimes and everything that can be done with them. Its methods check the principal in the
// context; without one they fail with Unauthenticated.
type Manager struct {
	opts    Options
	hub     *hub
	actions *actions
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	// creating is held from the claim of a sid until its runtime can be found.
	creating sync.Mutex

	mu       sync.Mutex
	runtimes map[string]*Runtime
}

// New returns a manager. Restore it before it takes work; Close it.
func New(o Options) *Manager {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Manager{
		opts: o, hub: newHub(o.Events, o.LastSequence, o.Limits.Lag, o.Limits.Subscribers),
		ctx: ctx, cancel: cancel, runtimes: map[string]*Runtime{},
	}
	m.actions = &actions{
		journal: o.Journal, hub: m.hub, metrics: o.Metrics, limits: o.Limits.Actions, answers: o.Answers,
		active: map[actionKey]*execution{}, ended: make(chan struct{}),
	}
	return m
}

// Close ends everything that the manager runs, and leaves the sandboxes to the next host. It blocks until that is done.
func (m *Manager) Close() {
	m.cancel()
	m.mu.Lock()
	all := slices.Collect(maps.Values(m.runtimes))
	m.mu.Unlock()
	for _, r := range all {
		r.leave()
	}
	m.tasks.Wait()
	m.actions.wait.Wait()
}

// leave stops looking after a runtime without touching its sandbox or its record.
func (r *Runtime) leave() {
	r.mu.Lock()
	gen, limit := r.gen, r.limit
	r.mu.Unlock()
	if limit != nil {
		limit.Stop()
	}
	r.stop()
	if gen != nil {
		gen.leave()
	}
}

func (m *Manager) add(r *Runtime) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runtimes[r.id] = r
}

// principal returns who asks.
func principal(ctx context.Context) (Principal, error) {
	p, ok := PrincipalFrom(ctx)
	if !ok {
		return Principal{}, rterr.New(rterr.Unauthenticated, "", "no principal").WithRan(rterr.RanNo)
	}
	return p, nil
}

// find returns a principal's runtime by its id, or by its sid if no id fits. Another principal's is not found.
func (m *Manager) find(ctx context.Context, ref string) (*Runtime, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if ref == "" {
		return nil, rterr.Invalid("", "runtime_id", "is required")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runtimes[ref]; r != nil && r.principal() == p.ID {
		return r, nil
	}
	if r := m.bySid(p.ID, ref); r != nil {
		return r, nil
	}
	return nil, notFound(ref)
}

// bySid prefers the live runtime of a sid, else the newest; the lock is held.
func (m *Manager) bySid(principalID, sid string) *Runtime {
	var best *Runtime
	for _, r := range m.runtimes {
		if r.principal() != principalID || r.rec.Runtime.GetSid() != sid {
			continue
		}
		if r.status().Live() {
			return r
		}
		if best == nil || best.created().Before(r.created()) {
			best = r
		}
	}
	return best
}

func (r *Runtime) created() time.Time { return r.rec.Runtime.GetCreatedAt().AsTime() } // never changes

// Create makes a runtime, or returns that of the sid.
func (m *Manager) Create(ctx context.Context, req *runtimev1.CreateRuntimeRequest) (*runtimev1.Runtime, bool, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, false, err
	}
	rec, err := m.newRecord(p, req)
	if err != nil {
		return nil, false, err
	}
	r, attached, err := m.claim(ctx, rec, req.GetAttachToExisting())
	if err != nil {
		return nil, false, err
	}
	if attached {
		if err := r.wake(ctx); err != nil {
			return nil, true, err
		}
	}
	if !req.GetWait() {
		return r.view(), attached, nil
	}
	v, err := r.await(ctx, settled)
	if err != nil {
		return nil, attached, err
	}
	if v.GetError() != nil && v.GetStatus() == backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR {
		return v, attached, errorOf(v)
	}
	return v, attached, nil
}

// newRecord checks the request and makes the record of a new runtime.
func (m *Manager) newRecord(p Principal, req *runtimev1.CreateRuntimeRequest) (Record, error) {
	sid := req.GetSid()
	if sid == "" {
		sid = "s-" + strings.ToLower(rand.Text())
	}
	if err := checkSid(sid); err != nil {
		return Record{}, err
	}
	backend := req.GetBackend()
	if backend == "" {
		backend = m.opts.Backends.Default()
	}
	if !slices.ContainsFunc(m.opts.Backends.List(), func(b *runtimev1.Backend) bool { return b.GetName() == backend }) {
		return Record{}, rterr.Invalid("create runtime", "backend", "no backend %q is configured", backend)
	}
	now := timestamppb.Now()
	rec := Record{
		Principal: p.ID, Credential: rand.Text() + rand.Text(), Lease: m.opts.Lease, Spec: req.GetSpec(),
		Runtime: &runtimev1.Runtime{
			Id: newRuntimeID(), Sid: sid, Backend: backend, CreatedAt: now, UpdatedAt: now,
			Status: backendv1.RuntimeStatus(lifecycle.Stopped), SessionKey: rand.Text() + rand.Text(),
			Labels: req.GetSpec().GetLabels(),
		},
	}
	if rec.Spec == nil {
		rec.Spec = &backendv1.SandboxSpec{}
	}
	rec.newIntent()
	return rec, nil
}

// newIntent makes the record ready for another sandbox.
func (rec *Record) newIntent() {
	rec.IntentID = "i-" + strings.ToLower(rand.Text())
	rec.Handle = nil
	rec.Runtime.Generation++
	rec.Runtime.SandboxId = ""
	rec.Runtime.Phase = backendv1.Phase_PHASE_CREATING
}

// newRuntimeID is a lower-case DNS label that no route word can be: they have no digits after an r.
func newRuntimeID() string {
	return "r" + strconv.Itoa(int(time.Now().Unix()%10)) + strings.ToLower(rand.Text())[:14]
}

func checkSid(sid string) error {
	bad := func(c rune) bool { return c == '/' || c == unicode.ReplacementChar || !unicode.IsPrint(c) }
	if len(sid) > 200 || strings.ContainsFunc(sid, bad) {
		return rterr.Invalid("create runtime", "sid", "must be 1 to 200 printable characters without a slash")
	}
	return nil
}

// claim takes the sid and starts the runtime, or finds who has it.
func (m *Manager) claim(ctx context.Context, rec Record, attach bool) (r *Runtime, attached bool, err error) {
	id, sid := rec.Runtime.GetId(), rec.Runtime.GetSid()
	if err := m.room(); err != nil {
		return nil, false, err
	}
	m.creating.Lock()
	defer m.creating.Unlock()
	for range 3 { // a holder that has just stopped is replaced
		holder, err := m.opts.Registry.ClaimSid(ctx, rec.Principal, sid, id)
		if err != nil {
			return nil, false, rterr.Wrap(rterr.Internal, "claim sid", err)
		}
		if holder == id {
			r, err := m.launch(rec)
			return r, false, err
		}
		m.mu.Lock()
		other := m.runtimes[holder]
		m.mu.Unlock()
		if other != nil && other.status().Live() {
			if attach {
				return other, true, nil
			}
			return nil, false, rterr.New(rterr.AlreadyExists, "create runtime", "sid %q belongs to runtime %s", sid, holder).
				WithField("sid").With("runtime", holder)
		}
		if err := m.opts.Registry.ReleaseSid(ctx, rec.Principal, sid, holder); err != nil {
			return nil, false, rterr.Wrap(rterr.Internal, "release sid", err)
		}
	}
	return nil, false, rterr.New(rterr.Unavailable, "create runtime", "the sid %q is being claimed by others", sid)
}

// room keeps the number of live runtimes within the limit, and forgets stopped ones after their retention.
func (m *Manager) room() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := 0
	for id, r := range m.runtimes {
		v := r.view()
		switch {
		case lifecycle.Status(v.GetStatus()).Live():
			live++
		case time.Since(v.GetUpdatedAt().AsTime()) > retention:
			delete(m.runtimes, id)
		}
	}
	if live >= m.opts.Limits.Runtimes {
		return rterr.New(rterr.LimitExceeded, "create runtime", "%d runtimes are live, no more are allowed", live).
			With("limit", "limits.max_runtimes")
	}
	return nil
}

// launch saves the intent, then asks the backend.
func (m *Manager) launch(rec Record) (*Runtime, error) {
	r := m.newRuntime(rec)
	m.add(r)
	if err := r.apply(lifecycle.EventConnect, "", nil); err != nil {
		return nil, err
	}
	r.goConnect()
	return r, nil
}

// Uses reports whether a backend has live runtimes.
func (m *Manager) Uses(backend string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runtimes {
		if r.backendName() == backend && r.status().Live() {
			return true
		}
	}
	return false
}

// wake resumes a paused runtime that is attached to.
func (r *Runtime) wake(ctx context.Context) error {
	if r.view().GetPhase() != backendv1.Phase_PHASE_PAUSED {
		return nil
	}
	return r.resume(ctx)
}
