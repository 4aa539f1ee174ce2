package runtime

import (
	"context"
	"sync"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// ActionEntry is one line of the journal: what the host remembers of an action. The agent's record is the authority while its
// sandbox lives; this is what remains afterwards.
type ActionEntry struct {
	Runtime    string
	Generation uint64
	Principal  string
	Record     *agentv1.ActionRecord
	// Answered: the client has the observation, as far as its door can tell (Manager.SetAnswered).
	Answered bool
}

// Journal is the index of actions. Put is written behind: it must not block on a disk or a network.
type Journal interface {
	Put(ActionEntry)
	// Get returns the entry of a runtime's action; ok is false if there is none.
	Get(ctx context.Context, runtimeID, actionID string) (e ActionEntry, ok bool, err error)
	// Drop forgets an action that never ran.
	Drop(runtimeID, actionID string)
	// Find returns a principal's actions of one id, newest first: one, unless clients use an id in several runtimes.
	Find(ctx context.Context, principal, actionID string) ([]ActionEntry, error)
	// List returns the entries of a runtime, or of all runtimes of a principal if runtimeID is empty, newest first.
	List(ctx context.Context, principal, runtimeID string, active bool, limit int) ([]ActionEntry, error)
}

// actions runs the actions of all runtimes.
type actions struct {
	journal Journal
	hub     *hub
	metrics Metrics
	limits  ActionLimits
	answers Answerer

	mu     sync.Mutex
	active map[actionKey]*execution
	ended  chan struct{} // closed and replaced whenever an action leaves active
	wait   sync.WaitGroup
}

type actionKey struct{ runtime, action string }

// ActionLimits are the bounds on actions of one runtime.
type ActionLimits struct {
	// Queue is how many actions may wait for the permit.
	Queue int
	// Processes is how many process actions may run at once, ProcessQueue how many may wait.
	Processes    int
	ProcessQueue int
	// RelayBytes is how much output the host holds for a client that does not read; beyond, the client is on its own stream.
	RelayBytes int
}

// execute starts a, or attaches to it if its id is known, and returns its events.
func (s *actions) execute(ctx context.Context, r *Runtime, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	a := req.GetAction()
	if err := action.Normalize(a); err != nil {
		return nil, err
	}
	if s.answers.Takes(a) {
		return s.answer(ctx, r, a, req.GetFrom())
	}
	entry, known, err := s.lookup(ctx, r, a)
	if err != nil {
		return nil, err
	}
	if known {
		return s.attach(ctx, r, entry, req.GetOutput(), req.GetFrom()), nil
	}
	gen, err := r.admit(ctx)
	if err != nil {
		return nil, err
	}
	x, first, err := s.begin(r, gen, a)
	if err != nil {
		return nil, err
	}
	if !first {
		if err := sameDigest(x.snapshot(), a); err != nil {
			return nil, err
		}
		return s.join(ctx, x, req.GetOutput(), req.GetFrom()), nil
	}
	out := newRelay(ctx, s.limits.RelayBytes, req.GetFrom(), func(ctx context.Context, cur *cursor) (*resuming, error) {
		return r.reader(ctx, x.gen, a.GetId(), req.GetOutput(), cur), nil
	})
	s.wait.Go(func() { x.keep(req.GetOutput(), req.GetFrom(), out); s.forget(x) })
	return out, nil
}

// lookup finds an action that is not active any more in the journal.
func (s *actions) lookup(ctx context.Context, r *Runtime, a *agentv1.Action) (ActionEntry, bool, error) {
	s.mu.Lock()
	_, active := s.active[actionKey{r.id, a.GetId()}]
	s.mu.Unlock()
	if active {
		return ActionEntry{}, false, nil
	}
	entry, known, err := s.journal.Get(ctx, r.id, a.GetId())
	if err != nil || !known {
		return ActionEntry{}, false, err
	}
	return entry, true, sameDigest(entry.Record, a)
}

func sameDigest(record *agentv1.ActionRecord, a *agentv1.Action) error {
	if record.GetDigest() == "" || record.GetDigest() == a.GetDigest() {
		return nil
	}
	return rterr.New(rterr.ActionConflict, "action "+a.GetId(), "the id belongs to another action (%s)", record.GetSummary()).
		WithField("action.id").WithRan(rterr.RanNo)
}

// ownerOf returns the runtime in which a principal's action is active, empty if it is in none.
func (s *actions) ownerOf(principal, id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, x := range s.active {
		if key.action == id && x.principal == principal {
			return key.runtime
		}
	}
	return ""
}

// begin makes the execution of a, with its place in the queue; first is false if another request has begun it.
func (s *actions) begin(r *Runtime, gen *generation, a *agentv1.Action) (x *execution, first bool, err error) {
	key := actionKey{r.id, a.GetId()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x, ok := s.active[key]; ok {
		return x, false, nil
	}
	x = newExecution(r, gen, r.principal(), a)
	if err := x.enter(); err != nil {
		return nil, false, err
	}
	s.active[key] = x
	return x, true, nil
}

func (s *actions) forget(x *execution) {
	s.mu.Lock()
	delete(s.active, actionKey{x.runtime.id, x.action.GetId()})
	close(s.ended)
	s.ended = make(chan struct{})
	s.mu.Unlock()
}

// join attaches to an action that another request has begun.
func (s *actions) join(ctx context.Context, x *execution, mode agentv1.OutputMode, from []*agentv1.OutputCursor) agent.Stream {
	return &joined{ctx: ctx, x: x, open: func() agent.Stream {
		return x.runtime.reader(ctx, x.gen, x.action.GetId(), mode, newCursor(from))
	}}
}

// attach streams an action of the journal: from its sandbox if that still is the runtime's, else what the journal has.
func (s *actions) attach(ctx context.Context, r *Runtime, e ActionEntry, mode agentv1.OutputMode, from []*agentv1.OutputCursor) agent.Stream {
	gen := r.currentGeneration()
	if gen == nil || gen.number != e.Generation || gen.ctx.Err() != nil {
		return newReplay(e.Record, from)
	}
	reader := r.reader(ctx, gen, e.Record.GetId(), mode, newCursor(from))
	if e.Record.GetState() != agentv1.ActionState_ACTION_STATE_DONE {
		return reader
	}
	return &replayIfForgotten{reader: reader, entry: e, from: from}
}

// find returns the active execution, or the journal's entry.
func (s *actions) find(ctx context.Context, r *Runtime, id string) (*execution, ActionEntry, error) {
	s.mu.Lock()
	x := s.active[actionKey{r.id, id}]
	s.mu.Unlock()
	if x != nil {
		return x, ActionEntry{Runtime: r.id, Generation: x.gen.number, Principal: x.principal, Record: x.snapshot()}, nil
	}
	entry, known, err := s.journal.Get(ctx, r.id, id)
	if err != nil {
		return nil, ActionEntry{}, err
	}
	if !known {
		return nil, ActionEntry{}, rterr.New(rterr.NotFound, "", "no action %q in runtime %s", id, r.id).WithRan(rterr.RanNo)
	}
	return nil, entry, nil
}

// interrupt signals an active action, or withdraws a queued one.
func (s *actions) interrupt(ctx context.Context, r *Runtime, id string, level agentv1.InterruptLevel) (bool, error) {
	x, _, err := s.find(ctx, r, id)
	if err != nil || x == nil {
		return false, err
	}
	select {
	case <-x.started:
	default:
		x.withdraw(errWithdrawn)
		select {
		case <-x.done:
			return true, nil
		case <-x.started: // it had left the queue: signal it where it runs
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	exec, err := x.gen.executor(ctx)
	if err != nil {
		return false, err
	}
	answer, err := exec.Interrupt(ctx, &agentv1.InterruptRequest{ActionId: id, Level: level})
	return answer.GetSignalled(), err
}

// changed writes the journal, tells the watchers, counts.
func (s *actions) changed(x *execution, record *agentv1.ActionRecord) {
	s.journal.Put(x.entry(record))
	obs := record.GetObservation()
	changed := &runtimev1.ActionChanged{
		ActionId: record.GetId(), Kind: record.GetKind(), State: record.GetState(), Outcome: obs.GetOutcome(),
		Summary: record.GetSummary(),
	}
	if obs != nil {
		changed.ExitCode = obs.ExitCode
	}
	s.hub.publish(&runtimev1.RuntimeEvent{
		RuntimeId: x.runtime.id, Generation: x.gen.number, Event: &runtimev1.RuntimeEvent_Action{Action: changed},
	})
	if obs != nil {
		s.metrics.ActionDone(x.runtime.backendName(), record.GetKind(), obs.GetOutcome(), time.Since(record.GetCreatedAt().AsTime()))
	}
}

// refused forgets an action that the agent did not take: it never ran, and its id may be used again.
func (s *actions) refused(x *execution) { s.journal.Drop(x.runtime.id, x.action.GetId()) }

// withdrawAll ends the waits of a runtime's queued actions: they never run.
func (s *actions) withdrawAll(r *Runtime) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, x := range s.active {
		if key.runtime != r.id {
			continue
		}
		select {
		case <-x.started:
		default:
			x.withdraw(errWithdrawn)
		}
	}
}

// restore takes the actions that an earlier life of the host left unfinished: those that their agent has are followed to their
// end, those that never reached it are forgotten, so that a repeat of the request may run them.
func (s *actions) restore(ctx context.Context, r *Runtime, gen *generation) {
	entries, err := s.journal.List(ctx, r.principal(), r.id, true, maxRestored)
	if err != nil {
		r.log.Error("the journal cannot be read; running actions are followed when they are asked for", "error", err)
		return
	}
	for _, e := range entries {
		if e.Generation != gen.number {
			continue
		}
		if e.Record.GetState() == agentv1.ActionState_ACTION_STATE_QUEUED {
			s.journal.Drop(r.id, e.Record.GetId())
			continue
		}
		x := newExecution(r, gen, e.Principal, &agentv1.Action{
			Id: e.Record.GetId(), Kind: e.Record.GetKind(), Digest: e.Record.GetDigest(), Timeout: e.Record.GetTimeout(),
		})
		x.record, x.answered = e.Record, e.Answered
		close(x.started)
		if err := x.enter(); err != nil {
			r.log.Warn("a running action is not followed", "action", x.action.GetId(), "error", err)
			continue
		}
		s.mu.Lock()
		s.active[actionKey{r.id, x.action.GetId()}] = x
		s.mu.Unlock()
		s.wait.Go(func() { x.adopt(); s.forget(x) })
	}
}

// maxRestored bounds the running actions of one runtime that a new host follows.
const maxRestored = 1000
