package runtime

import (
	"context"
	"io"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

func recordEvent(r *agentv1.ActionRecord) *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: r}}
}

func observationEvent(o *agentv1.Observation) *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{Observation: o}}
}

func gapEvent(channel agentv1.Channel, offset, length uint64) *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Gap{
		Gap: &agentv1.Gap{Channel: channel, Offset: offset, Length: length},
	}}
}

func cloneRecord(r *agentv1.ActionRecord) *agentv1.ActionRecord {
	return proto.CloneOf(r)
}

func detailOf(err error) *agentv1.ErrorDetail { return rtwire.ToDetail(err) }

// replay streams an action whose sandbox is no more: its record, gaps where its output was, its observation.
type replay struct {
	events []*agentv1.ActionEvent
}

func newReplay(record *agentv1.ActionRecord, from []*agentv1.OutputCursor) *replay {
	obs := record.GetObservation()
	if obs == nil { // a host that died between the action's end and the journal's write
		lost := rterr.New(rterr.OutcomeUnknown, "action "+record.GetId(), "its sandbox is gone").WithRan(rterr.RanUnknown)
		obs = &agentv1.Observation{ActionId: record.GetId(), Outcome: agentv1.Outcome_OUTCOME_LOST, Error: detailOf(lost)}
	}
	events := []*agentv1.ActionEvent{recordEvent(record)}
	at := newCursor(from)
	for _, end := range obs.GetChannels() {
		if start := at.next[end.GetChannel()]; start < end.GetLength() {
			events = append(events, gapEvent(end.GetChannel(), start, end.GetLength()-start))
		}
	}
	return &replay{events: append(events, observationEvent(obs))}
}

// Recv returns the next event.
func (r *replay) Recv() (*agentv1.ActionEvent, error) {
	if len(r.events) == 0 {
		return nil, io.EOF
	}
	ev := r.events[0]
	r.events = r.events[1:]
	return ev, nil
}

// Close has nothing to release.
func (r *replay) Close() error { return nil }

// replayIfForgotten reads an ended action from its agent, and from the journal when the agent keeps it no longer.
type replayIfForgotten struct {
	reader  *resuming
	entry   ActionEntry
	from    []*agentv1.OutputCursor
	instead *replay
	begun   bool
}

// Recv returns the next event.
func (r *replayIfForgotten) Recv() (*agentv1.ActionEvent, error) {
	if r.instead != nil {
		return r.instead.Recv()
	}
	ev, err := r.reader.Recv()
	if err != nil && !r.begun && (rterr.Is(err, rterr.NotFound) || r.reader.gen.ctx.Err() != nil) {
		r.instead = newReplay(r.entry.Record, r.from)
		return r.instead.Recv()
	}
	r.begun = true
	return ev, err
}

// Close ends the reader.
func (r *replayIfForgotten) Close() error { return r.reader.Close() }

// joined streams an action that another request has begun: "queued" at once, the rest when the agent has it.
type joined struct {
	ctx      context.Context
	x        *execution
	open     func() agent.Stream
	up       agent.Stream
	recorded bool
}

// Recv returns the next event.
func (j *joined) Recv() (*agentv1.ActionEvent, error) {
	if j.up == nil {
		if err := j.begin(); err != nil {
			return nil, err
		}
		if j.up == nil {
			return recordEvent(j.x.snapshot()), nil
		}
	}
	for {
		ev, err := j.up.Recv()
		if err == nil && ev.GetRecord() != nil && j.recorded {
			continue
		}
		return ev, err
	}
}

// begin waits until the agent has the action; if that is not so yet, the record that says "queued" goes out first.
func (j *joined) begin() error {
	select {
	case <-j.x.started:
		j.up = j.open()
		return nil
	default:
	}
	if !j.recorded {
		j.recorded = true
		return nil
	}
	select {
	case <-j.x.started:
		j.up = j.open()
	case <-j.x.done: // withdrawn, refused or lost before it ran
		record := j.x.snapshot()
		if record.GetObservation() == nil {
			return rterr.New(rterr.Cancelled, "action "+record.GetId(), "was refused").WithRan(rterr.RanNo)
		}
		replayed := newReplay(record, nil)
		replayed.events = replayed.events[1:]
		j.up = replayed
	case <-j.ctx.Done():
		return context.Cause(j.ctx)
	}
	return nil
}

// Close ends the reader.
func (j *joined) Close() error {
	if j.up != nil {
		return j.up.Close()
	}
	return nil
}
