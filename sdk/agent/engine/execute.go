package engine

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

func detailOf(e *rterr.Error) *agentv1.ErrorDetail { return rtwire.ToDetail(e) }

// Execute runs an action, or attaches to one with the same id and digest, and gives its events to send until the observation has
// been sent. The envelope is normalized in place: a minted id is in it. If ctx ends or send fails, Execute returns and the
// action goes on.
//
// Errors: InvalidArgument, UnknownKind, LimitExceeded (nothing was recorded, ran no), ActionConflict; Cancelled or Timeout for
// ctx; the error of send as it is.
func (e *Engine) Execute(ctx context.Context, req *agentv1.ExecuteRequest, send func(*agentv1.ActionEvent) error) error {
	const op = "execute action"
	a := req.GetAction()
	if err := action.Normalize(a); err != nil {
		return rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	l, err := e.known(a)
	if l == nil && err == nil {
		l, err = e.admit(a)
	}
	if err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	return stream(ctx, l, req.GetOutput(), req.GetFrom(), send)
}

// Attach streams a known action. NotFound, with ran no, for an unknown id; else as Execute.
func (e *Engine) Attach(ctx context.Context, req *agentv1.AttachRequest, send func(*agentv1.ActionEvent) error) error {
	l, err := e.find("attach to action", req.GetActionId())
	if err != nil {
		return err
	}
	return stream(ctx, l, req.GetOutput(), req.GetFrom(), send)
}

func (e *Engine) lookup(id string) *live {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.live[id]
}

// find returns an action by its id, from memory or from its record.
func (e *Engine) find(op, id string) (*live, error) {
	if l := e.lookup(id); l != nil {
		return l, nil
	}
	l, err := e.stored(id)
	if l == nil && err == nil {
		// It may be recorded and not yet live: look again when that is over.
		e.admission.Lock()
		l = e.lookup(id)
		e.admission.Unlock()
	}
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	if l == nil {
		return nil, rterr.New(rterr.NotFound, op, "no action %q is known", id).WithRan(rterr.RanNo)
	}
	return l, nil
}

// known returns the action that has the id of a already; ActionConflict if it is another one. nil is certain only while admission
// is held: without it, an action may be recorded and not yet live.
func (e *Engine) known(a *agentv1.Action) (*live, error) {
	l := e.lookup(a.GetId())
	if l == nil {
		var err error
		if l, err = e.stored(a.GetId()); err != nil || l == nil {
			return nil, err
		}
	}
	if have := l.snapshot().record.GetDigest(); have != a.GetDigest() {
		return nil, rterr.New(rterr.ActionConflict, "", "id %q was used for another action", a.GetId()).
			WithRan(rterr.RanNo).With("digest", have)
	}
	return l, nil
}

// stored reads a done action from its record, nil if there is none.
func (e *Engine) stored(id string) (*live, error) {
	if brief := e.journal.Brief(id); brief.GetState() != agentv1.ActionState_ACTION_STATE_DONE {
		return nil, nil
	}
	rec, outputs, err := e.journal.Get(id)
	if err != nil || rec == nil {
		return nil, err
	}
	l := &live{id: id, record: rec}
	for _, end := range rec.GetObservation().GetChannels() {
		var data []byte
		from := end.GetLength()
		for _, o := range outputs {
			if o.GetChannel() == end.GetChannel() {
				data, from = o.GetData(), o.GetOffset()
			}
		}
		c := e.spool.Stored(spool.Key{ID: id, Channel: int32(end.GetChannel())}, end.GetLength(), from, data)
		l.channels = append(l.channels, channel{end.GetChannel(), c})
	}
	return l, nil
}

// admit records a new action and lets it run. Nothing runs unless it is recorded.
func (e *Engine) admit(a *agentv1.Action) (*live, error) {
	start, err := e.prepare(a)
	if err != nil {
		return nil, err
	}
	l, begin, err := e.enlist(a, start)
	if err != nil {
		return nil, err
	}
	if begin != nil {
		begin()
	}
	return l, nil
}

// job is a decoded payload: reserve takes its place without running anything.
type job struct {
	by      controller
	input   bool
	reserve func(l *live) (place, error)
}

// place is where an action will run: begin is called once it is recorded, retract if it cannot be. runs is false while others
// are before it.
type place struct {
	runs           bool
	begin, retract func()
}

// prepare decodes the payload. Nothing is recorded of what it refuses.
func (e *Engine) prepare(a *agentv1.Action) (job, error) {
	switch a.GetKind() {
	case action.KindProcess:
		p, err := action.DecodeProcess(a.GetPayload())
		if err != nil {
			return job{}, err
		}
		return e.processJob(p), nil
	case action.KindRun:
		r, err := decodeRun(a.GetPayload())
		if err != nil {
			return job{}, err
		}
		return e.shell.job(r), nil
	}
	if k := e.cfg.Kinds[a.GetKind()]; k != nil {
		task, err := k.Prepare(a.GetPayload())
		if err != nil {
			return job{}, refusal(err)
		}
		return e.kindJob(task), nil
	}
	return job{}, action.UnknownKind(a.GetKind(), e.Kinds())
}

// enlist records the action, unless another request has done so meanwhile: then there is nothing to begin.
func (e *Engine) enlist(a *agentv1.Action, j job) (*live, func(), error) {
	e.admission.Lock()
	defer e.admission.Unlock()
	if l, err := e.known(a); l != nil || err != nil {
		return l, nil, err
	}
	l := &live{id: a.GetId(), timeout: a.GetTimeout().AsDuration(), by: j.by}
	if j.input {
		l.input = newInput()
	}
	now := time.Now()
	l.record = &agentv1.ActionRecord{Id: a.GetId(), Kind: a.GetKind(), Digest: a.GetDigest(), Timeout: a.GetTimeout(),
		CreatedAt: timestamppb.New(now), Summary: action.Summary(a), State: agentv1.ActionState_ACTION_STATE_QUEUED}
	at, err := j.reserve(l)
	if err != nil {
		return nil, nil, err
	}
	if at.runs {
		l.record.State, l.record.StartedAt = agentv1.ActionState_ACTION_STATE_RUNNING, timestamppb.New(now)
	}
	if err := e.enter(l); err != nil {
		at.retract()
		return nil, nil, err
	}
	return l, at.begin, nil
}

// enter makes an action known: to the journal, then to readers.
func (e *Engine) enter(l *live) error {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return rterr.New(rterr.Unavailable, "", "the agent is stopping").WithRan(rterr.RanNo)
	}
	if err := e.journal.Put(l.record); err != nil {
		return rterr.From(err).WithRan(rterr.RanNo)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live[l.id] = l
	return nil
}

// loseUnfinished makes the actions of an earlier engine done that were not.
func (e *Engine) loseUnfinished() error {
	unfinished := e.journal.List(int(^uint(0)>>1), func(r *agentv1.ActionRecord) bool {
		return r.GetState() != agentv1.ActionState_ACTION_STATE_DONE
	})
	for _, r := range slices.Backward(unfinished) {
		if err := e.journal.Put(e.lost(r)); err != nil {
			return err
		}
	}
	return nil
}

// lost is the last record of an action that an earlier engine has left behind.
func (e *Engine) lost(old *agentv1.ActionRecord) *agentv1.ActionRecord {
	cause := rterr.New(rterr.OutcomeUnknown, "", "the agent was restarted while the action ran").WithRan(rterr.RanUnknown)
	if old.GetState() == agentv1.ActionState_ACTION_STATE_QUEUED {
		cause = rterr.New(rterr.OutcomeUnknown, "", "the agent was restarted before the action's turn came").
			WithRan(rterr.RanNo).WithRemedy("send it again under a new id")
	}
	now := timestamppb.Now()
	obs := &agentv1.Observation{ActionId: old.GetId(), Outcome: agentv1.Outcome_OUTCOME_LOST, Error: detailOf(cause),
		StartedAt: old.GetStartedAt(), FinishedAt: now}
	for _, k := range e.spool.Keys(old.GetId()) {
		c := e.spool.Stored(k, e.spool.Length(k), e.spool.Length(k), nil)
		obs.Channels = append(obs.Channels, &agentv1.ChannelEnd{Channel: agentv1.Channel(k.Channel),
			Length: e.spool.Length(k), RetainedFrom: c.RetainedFrom()})
	}
	return &agentv1.ActionRecord{Id: old.Id, Kind: old.Kind, Digest: old.Digest, CreatedAt: old.CreatedAt, Pid: old.Pid,
		StartedAt: old.StartedAt, Timeout: old.Timeout, Summary: old.Summary, State: agentv1.ActionState_ACTION_STATE_DONE,
		FinishedAt: now, Observation: obs}
}

func withoutPayload(r *agentv1.ActionRecord) *agentv1.ActionRecord {
	if r.GetObservation() == nil {
		return r
	}
	o := r.Observation
	return &agentv1.ActionRecord{Id: r.Id, Kind: r.Kind, Digest: r.Digest, State: r.State, CreatedAt: r.CreatedAt,
		StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Timeout: r.Timeout, Pid: r.Pid, Summary: r.Summary,
		Observation: &agentv1.Observation{ActionId: o.ActionId, Outcome: o.Outcome, Error: o.Error, ExitCode: o.ExitCode,
			Channels: o.Channels, StartedAt: o.StartedAt, FinishedAt: o.FinishedAt}}
}
