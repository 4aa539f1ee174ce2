package runtime

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Answerer answers the actions that need no sandbox.
type Answerer interface {
	// Takes reports whether it answers a. It must be quick: every action is shown to it.
	Takes(a *agentv1.Action) bool
	// Answer returns the payload of the observation; an error is a refusal. It may block on a disk. Repeating it does no harm.
	Answer(principal, sid string, a *agentv1.Action) ([]byte, error)
}

// noSandbox is the generation of an action that none has run: nobody asks an agent for it.
const noSandbox = 0

// answer answers a normalized action that needs no sandbox, once: a repeat of its id gets what the journal has. It takes no permit,
// and a runtime that is paused or starting does not hold it up.
func (s *actions) answer(ctx context.Context, r *Runtime, a *agentv1.Action, from []*agentv1.OutputCursor) (agent.Stream, error) {
	r.answering.Lock()
	defer r.answering.Unlock()
	entry, known, err := s.lookup(ctx, r, a)
	if err != nil {
		return nil, err
	}
	if known && len(entry.Record.GetObservation().GetPayload()) > 0 {
		return newReplay(entry.Record, from), nil
	}
	if status := r.status(); status == lifecycle.Stopped {
		return nil, r.refusal(r.view())
	}
	began := timestamppb.Now()
	payload, err := s.answers.Answer(r.principal(), r.rec.Runtime.GetSid(), a)
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "action "+a.GetId(), err)
	}
	ended := timestamppb.Now()
	record := &agentv1.ActionRecord{
		Id: a.GetId(), Kind: a.GetKind(), Digest: a.GetDigest(), Timeout: a.GetTimeout(), Summary: action.Summary(a),
		State: agentv1.ActionState_ACTION_STATE_DONE, CreatedAt: began, StartedAt: began, FinishedAt: ended,
		Observation: &agentv1.Observation{
			ActionId: a.GetId(), Outcome: agentv1.Outcome_OUTCOME_COMPLETED, Payload: payload, StartedAt: began, FinishedAt: ended,
		},
	}
	if known { // it looked at something that was too large for the journal
		return newReplay(record, from), nil
	}
	s.changed(&execution{runtime: r, gen: &generation{number: noSandbox}, principal: r.principal(), action: a}, record)
	return newReplay(record, from), nil
}
