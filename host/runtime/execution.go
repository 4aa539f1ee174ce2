package runtime

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

var errWithdrawn = rterr.New(rterr.Cancelled, "", "withdrawn before it ran").WithRan(rterr.RanNo)

// execution is an action that is queued or running, from the host's side. Its keeper holds the permit and the stream until the
// outcome is known, whoever else has gone away.
type execution struct {
	runtime   *Runtime
	gen       *generation
	principal string
	action    *agentv1.Action
	// known: the agent has its record already; it is attached to, never executed.
	known  bool
	ticket *ticket

	// withdraw ends the wait for the permit.
	withdrawCtx context.Context
	withdraw    context.CancelCauseFunc
	// started is closed when the agent has the record, done when the observation is known.
	started chan struct{}
	done    chan struct{}

	mu     sync.Mutex
	record *agentv1.ActionRecord

	// indexing is held while the journal is written, so that it keeps the newest record and the newest word on the answer.
	indexing sync.Mutex
	answered bool
}

func newExecution(r *Runtime, gen *generation, principal string, a *agentv1.Action) *execution {
	ctx, withdraw := context.WithCancelCause(gen.ctx)
	return &execution{
		runtime: r, gen: gen, principal: principal, action: a,
		withdrawCtx: ctx, withdraw: withdraw,
		started: make(chan struct{}), done: make(chan struct{}),
		record: &agentv1.ActionRecord{
			Id: a.GetId(), Kind: a.GetKind(), Digest: a.GetDigest(), Timeout: a.GetTimeout(),
			State: agentv1.ActionState_ACTION_STATE_QUEUED, CreatedAt: timestamppb.Now(), Summary: action.Summary(a),
		},
	}
}

// guarded: the kind takes the runtime's permit.
func guarded(kind string) bool { return kind != action.KindProcess }

// snapshot is the record as it is known now. The caller must not change it.
func (x *execution) snapshot() *agentv1.ActionRecord {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.record
}

func (x *execution) set(record *agentv1.ActionRecord) {
	x.indexing.Lock()
	defer x.indexing.Unlock()
	x.mu.Lock()
	x.record = record
	x.mu.Unlock()
	x.runtime.actions.changed(x, record)
}

// entry is the action's line of the journal; indexing is held.
func (x *execution) entry(record *agentv1.ActionRecord) ActionEntry {
	return ActionEntry{Runtime: x.runtime.id, Generation: x.gen.number, Principal: x.principal, Record: record, Answered: x.answered}
}

// setAnswered notes in the journal whether the action's client has its answer.
func (x *execution) setAnswered(answered bool) {
	x.indexing.Lock()
	defer x.indexing.Unlock()
	x.answered = answered
	x.runtime.actions.journal.Put(x.entry(x.snapshot()))
}

// keep runs the action to its end. out gets its events as long as it wants them.
func (x *execution) keep(mode agentv1.OutputMode, from []*agentv1.OutputCursor, out *relay) {
	defer x.withdraw(nil)
	defer close(x.done)
	defer x.ticket.release()
	if err := x.wait(out); err != nil {
		x.endUnstarted(err, out)
		return
	}
	stream, err := x.start(mode, from)
	if err != nil {
		x.endUnstarted(err, out)
		return
	}
	defer stream.Close() //nolint:errcheck // closing a read side
	x.follow(stream, out)
}

// enter takes the permit of the action's kind, or a place in its queue. It does not block.
func (x *execution) enter() (err error) {
	of := x.runtime.processes
	if guarded(x.action.GetKind()) {
		of = x.runtime.permit
	}
	x.ticket, err = of.enter()
	return err
}

// wait blocks until the action's turn has come.
func (x *execution) wait(out *relay) error {
	if x.ticket.held() {
		return nil
	}
	x.set(x.snapshot())
	out.push(recordEvent(x.snapshot()))
	return x.ticket.wait(x.withdrawCtx)
}

// start gives the action to the agent. A start whose answer was cut is repeated: the agent's record makes that safe.
func (x *execution) start(mode agentv1.OutputMode, from []*agentv1.OutputCursor) (*resuming, error) {
	stream := x.runtime.reader(x.gen.ctx, x.gen, x.action.GetId(), mode, newCursor(from))
	if x.known {
		return stream, nil
	}
	req := &agentv1.ExecuteRequest{Action: x.action, Output: mode, From: from}
	execute := func(ctx context.Context) error {
		exec, err := x.gen.executor(ctx)
		if err != nil {
			return err
		}
		stream.up, err = exec.Execute(x.gen.ctx, req)
		return err
	}
	op := x.runtime.op("execute")
	for {
		if x.withdrawCtx.Err() != nil {
			return nil, context.Cause(x.withdrawCtx)
		}
		err := x.runtime.m.opts.Recover.Do(x.withdrawCtx, op, execute)
		if err == nil {
			return stream, nil
		}
		if err := stream.afterCut(err); err != nil {
			return nil, err
		}
	}
}

// follow reads the stream to the observation. When nobody wants the output any more it goes on without.
func (x *execution) follow(stream *resuming, out *relay) {
	for {
		ev, err := stream.Recv()
		if err != nil {
			x.endLost(err, out)
			return
		}
		switch {
		case ev.GetRecord() != nil:
			x.running(ev.GetRecord())
		case ev.GetObservation() != nil:
			x.finish(ev.GetObservation())
		}
		if !out.push(ev) && ev.GetObservation() == nil && stream.mode != agentv1.OutputMode_OUTPUT_MODE_NONE {
			stream.drop()
			stream.mode = agentv1.OutputMode_OUTPUT_MODE_NONE
		}
		if ev.GetObservation() != nil {
			return
		}
	}
}

func (x *execution) running(record *agentv1.ActionRecord) {
	if record.GetDigest() == "" || record.GetSummary() == "" {
		record = cloneRecord(record) // an agent that is not ours may leave them out
		record.Digest, record.Summary, record.Kind = x.action.GetDigest(), x.record.GetSummary(), x.action.GetKind()
	}
	if record.GetCreatedAt() == nil {
		record.CreatedAt = x.record.GetCreatedAt()
	}
	x.set(record)
	select {
	case <-x.started:
	default:
		close(x.started)
	}
}

// finish records the observation.
func (x *execution) finish(obs *agentv1.Observation) {
	record := cloneRecord(x.snapshot())
	record.State = agentv1.ActionState_ACTION_STATE_DONE
	record.Observation = obs
	record.FinishedAt = obs.GetFinishedAt()
	if record.StartedAt == nil {
		record.StartedAt = obs.GetStartedAt()
	}
	x.set(record)
}

// endUnstarted ends an action that the agent did not take, or refused.
func (x *execution) endUnstarted(err error, out *relay) {
	if errors.Is(err, errWithdrawn) {
		obs := &agentv1.Observation{
			ActionId: x.action.GetId(), Outcome: agentv1.Outcome_OUTCOME_INTERRUPTED, FinishedAt: timestamppb.Now(),
			Error: detailOf(err),
		}
		x.finish(obs)
		out.push(recordEvent(x.snapshot()))
		out.push(observationEvent(obs))
		return
	}
	if x.gen.ctx.Err() != nil {
		x.endLost(err, out)
		return
	}
	x.runtime.actions.refused(x)
	out.fail(err)
}

// endLost ends an action whose sandbox is gone: it may have run, and is never run again.
func (x *execution) endLost(err error, out *relay) {
	if errors.Is(context.Cause(x.gen.ctx), errLeaving) {
		out.fail(errLeaving) // the next host goes on with it
		return
	}
	lost := rterr.New(rterr.OutcomeUnknown, "action "+x.action.GetId(), "its sandbox is gone: %v", err).WithCause(err)
	lost.Ran = rterr.RanUnknown
	if !x.known && x.snapshot().GetState() == agentv1.ActionState_ACTION_STATE_QUEUED {
		lost.Ran = rterr.RanNo
	}
	obs := &agentv1.Observation{
		ActionId: x.action.GetId(), Outcome: agentv1.Outcome_OUTCOME_LOST, Error: detailOf(lost), FinishedAt: timestamppb.Now(),
	}
	x.finish(obs)
	out.push(recordEvent(x.snapshot()))
	out.push(observationEvent(obs))
}

// adopt attaches to an action that an earlier life of the host has started.
func (x *execution) adopt() {
	x.known = true
	x.keep(agentv1.OutputMode_OUTPUT_MODE_NONE, nil, newRelay(x.gen.ctx, 0, nil, nil))
}

var _ agent.Stream = (*resuming)(nil)
