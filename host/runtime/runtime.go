package runtime

import (
	"context"
	"time"

	"sync"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Runtime is one session's sandbox as the host sees it, over all its generations.
type Runtime struct {
	id        string
	m         *Manager
	log       hclog.Logger
	permit    *permit
	processes *permit
	transfers *permit
	setUps    *permit
	actions   *actions
	// tasks are the goroutines of this runtime; ctx ends them.
	ctx  context.Context
	stop context.CancelFunc

	// operate is held by what changes the sandbox as a whole: pause, resume, stop, adoption.
	operate sync.Mutex
	// answering makes a look at the journal and an answer of the host's own one step.
	answering sync.Mutex

	mu    sync.Mutex
	rec   Record
	gen   *generation
	limit *time.Timer
	// endConnect ends a running creation and waits for its end; nil if there was none.
	endConnect func()
	changed    chan struct{} // closed and replaced at each change
}

func (m *Manager) newRuntime(rec Record) *Runtime {
	ctx, stop := context.WithCancel(m.ctx)
	id := rec.Runtime.GetId()
	return &Runtime{
		id: id, m: m, ctx: ctx, stop: stop, rec: rec, actions: m.actions,
		log:       m.opts.Logger.With("runtime", id, "sid", rec.Runtime.GetSid(), "backend", rec.Runtime.GetBackend()),
		permit:    newPermit(1, m.opts.Limits.Actions.Queue),
		processes: newPermit(m.opts.Limits.Actions.Processes, m.opts.Limits.Actions.ProcessQueue),
		transfers: newPermit(m.opts.Limits.Transfers, m.opts.Limits.Actions.Queue),
		setUps:    newPermit(1, m.opts.Limits.Actions.Queue),
		changed:   make(chan struct{}),
	}
}

func (r *Runtime) principal() string { return r.rec.Principal } // never changes

// backendName changes only while a new runtime looks for a backend that has room.
func (r *Runtime) backendName() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec.Runtime.GetBackend()
}

// op names an operation on this runtime for the recovery policy. All of them may be repeated: intents, handles and action ids
// see to that.
func (r *Runtime) op(name string) policy.Op {
	return policy.Op{Name: name, Backend: r.backendName(), Runtime: r.id, Idempotent: true}
}

// reader is a reader of one action that survives cuts.
func (r *Runtime) reader(ctx context.Context, gen *generation, id string, mode agentv1.OutputMode, cur *cursor) *resuming {
	return &resuming{ctx: ctx, gen: gen, recover: r.m.opts.Recover, op: r.op("attach"), id: id, mode: mode, cur: cur}
}

// status is the present one.
func (r *Runtime) status() lifecycle.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return lifecycle.Status(r.rec.Runtime.GetStatus())
}

// view is a copy of what clients see.
func (r *Runtime) view() *runtimev1.Runtime {
	r.mu.Lock()
	v := proto.CloneOf(r.rec.Runtime)
	r.mu.Unlock()
	v.Queued = uint32(r.permit.waiting()) //nolint:gosec // bounded by the queue's limit
	v.Url = r.m.opts.SandboxURL(r.id)
	return v
}

func (r *Runtime) handle() *backendv1.Handle {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec.Handle
}

func (r *Runtime) currentGeneration() *generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gen
}

// apply moves the status by an event and does what the move asks for. cause is kept for people when it leads to an error.
func (r *Runtime) apply(event lifecycle.Event, message string, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := lifecycle.Status(r.rec.Runtime.GetStatus())
	to, effects, err := lifecycle.Next(from, event)
	if err != nil {
		return rterr.Wrap(rterr.IllegalState, "runtime "+r.id, err)
	}
	if len(effects) == 0 {
		return nil
	}
	r.rec.Runtime.Status = backendv1.RuntimeStatus(to)
	r.rec.Runtime.Message = message
	r.rec.Runtime.Error = nil
	if cause != nil {
		r.rec.Runtime.Error = detailOf(cause)
	}
	r.saveLocked()
	for _, e := range effects {
		r.effect(e, message)
	}
	return nil
}

// effect runs with the lock held.
func (r *Runtime) effect(e lifecycle.Effect, message string) {
	switch e.Kind {
	case lifecycle.DisarmLimit:
		if r.limit != nil {
			r.limit.Stop()
		}
	case lifecycle.ArmLimit:
		r.armLimit()
	case lifecycle.WithdrawActions:
		r.actions.withdrawAll(r)
	case lifecycle.Notify:
		r.log.Info("status changed", "from", e.From, "to", e.To, "message", message)
		r.publishLocked(&runtimev1.RuntimeEvent{Event: &runtimev1.RuntimeEvent_Status{Status: &runtimev1.StatusChanged{
			From: backendv1.RuntimeStatus(e.From), To: backendv1.RuntimeStatus(e.To), Message: message,
			Error: r.rec.Runtime.GetError(),
		}}})
	case lifecycle.RefuseActions, lifecycle.AdmitActions, lifecycle.EffectUnspecified:
		// admit asks the status itself
	}
}

// armLimit bounds the stay in the present status; the lock is held.
func (r *Runtime) armLimit() {
	at := lifecycle.Status(r.rec.Runtime.GetStatus())
	d := r.m.opts.Waits.Status(at)
	if d <= 0 {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		r.mu.Lock()
		stale := r.limit != timer
		r.mu.Unlock()
		if stale || r.ctx.Err() != nil {
			return
		}
		cause := rterr.New(rterr.Timeout, "runtime "+r.id, "%s lasted longer than %s", at, d)
		if err := r.apply(lifecycle.EventFailed, cause.Error(), cause); err != nil {
			r.log.Debug("the limit of a status came too late", "status", at, "error", err)
		}
	})
	r.limit = timer
}

// update changes the record under the lock, saves it and wakes who waits.
func (r *Runtime) update(change func(rec *Record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.rec)
	r.saveLocked()
	r.wakeLocked()
}

func (r *Runtime) saveLocked() {
	r.rec.Runtime.UpdatedAt = timestamppb.Now()
	if err := r.m.opts.Registry.Save(context.WithoutCancel(r.ctx), r.rec.clone()); err != nil {
		r.log.Error("the registry did not take a change; a restart of the host would not know it", "error", err)
	}
}

func (r *Runtime) publishLocked(ev *runtimev1.RuntimeEvent) {
	ev.RuntimeId, ev.Generation = r.id, r.rec.Runtime.GetGeneration()
	r.m.hub.publish(ev)
	r.wakeLocked()
}

func (r *Runtime) publish(ev *runtimev1.RuntimeEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publishLocked(ev)
}

func (r *Runtime) wakeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// setPhase records a phase that the backend has reported.
func (r *Runtime) setPhase(phase backendv1.Phase, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rec.Runtime.GetPhase() == phase {
		return
	}
	r.rec.Runtime.Phase = phase
	r.saveLocked()
	r.publishLocked(&runtimev1.RuntimeEvent{Event: &runtimev1.RuntimeEvent_Phase{
		Phase: &runtimev1.PhaseChanged{Phase: phase, Message: message},
	}})
}

// await blocks until ok holds for what clients see, and returns that.
func (r *Runtime) await(ctx context.Context, ok func(*runtimev1.Runtime) bool) (*runtimev1.Runtime, error) {
	for {
		r.mu.Lock()
		changed, fits := r.changed, ok(r.rec.Runtime)
		r.mu.Unlock()
		if fits {
			return r.view(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, rterr.Wrap(rterr.Cancelled, "wait for runtime "+r.id, context.Cause(ctx))
		}
	}
}

// settled: nothing more is going to happen by itself.
func settled(v *runtimev1.Runtime) bool {
	switch lifecycle.Status(v.GetStatus()) {
	case lifecycle.Ready, lifecycle.Error, lifecycle.Stopped:
		return true
	default:
		return false
	}
}

// admit returns the generation in which an action may start now. On the way up, and while the sandbox is looked for, it waits.
func (r *Runtime) admit(ctx context.Context) (*generation, error) {
	r.mu.Lock()
	gen, v := r.gen, r.rec.Runtime
	ok := lifecycle.Status(v.GetStatus()).AdmitsActions() && gen != nil
	paused := v.GetPhase() == backendv1.Phase_PHASE_PAUSED
	r.mu.Unlock()
	if paused {
		return nil, rterr.New(rterr.SandboxPaused, "runtime "+r.id, "is paused").WithRan(rterr.RanNo)
	}
	if ok {
		return gen, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.m.opts.Waits.Admit)
	defer cancel()
	got, err := r.await(ctx, func(v *runtimev1.Runtime) bool {
		return settled(v) || lifecycle.Status(v.GetStatus()).AdmitsActions()
	})
	if err != nil {
		return nil, rterr.From(err).WithRan(rterr.RanNo)
	}
	if gen := r.currentGeneration(); gen != nil && lifecycle.Status(got.GetStatus()).AdmitsActions() {
		return gen, nil
	}
	return nil, r.refusal(got)
}

func (r *Runtime) refusal(v *runtimev1.Runtime) error {
	status := lifecycle.Status(v.GetStatus())
	e := rterr.New(rterr.IllegalState, "runtime "+r.id, "takes no actions in status %s", status).
		WithRan(rterr.RanNo).With("status", status.String())
	if v.GetError() != nil {
		e = e.With("error", v.GetError().GetMessage())
	}
	if status == lifecycle.Stopped {
		return e.WithRemedy("start a new runtime")
	}
	return e.WithRemedy("see openhands-rt runtimes show " + r.id + " for the error; stop it and start a new one")
}

// clone is a copy that later changes do not reach.
func (rec Record) clone() Record {
	rec.Runtime = proto.CloneOf(rec.Runtime)
	rec.Handle = proto.CloneOf(rec.Handle)
	return rec
}
