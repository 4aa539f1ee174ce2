package engine

import (
	"context"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxChunk is the most that one Output event carries.
const maxChunk = 64 << 10

// reading is one reader of an action.
type reading struct {
	live    *live
	send    func(*agentv1.ActionEvent) error
	offsets map[agentv1.Channel]uint64
	readers map[agentv1.Channel]*spool.Reader
}

// stream sends an action's events in the order of agent.v1 ActionEvent. The reader's pace is its own.
func stream(ctx context.Context, l *live, mode agentv1.OutputMode, from []*agentv1.OutputCursor,
	send func(*agentv1.ActionEvent) error) error {
	r := &reading{live: l, send: send, offsets: map[agentv1.Channel]uint64{}, readers: map[agentv1.Channel]*spool.Reader{}}
	for _, c := range from {
		r.offsets[c.GetChannel()] = c.GetOffset()
	}
	defer r.close()
	first := l.snapshot().record
	if first.GetObservation() != nil {
		first = withoutPayload(first) // The observation follows.
	}
	if err := send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: first}}); err != nil {
		return err
	}
	for {
		changed := l.wake.Wait()
		v := l.snapshot()
		if mode != agentv1.OutputMode_OUTPUT_MODE_NONE {
			if err := r.drain(ctx, v.channels); err != nil {
				return err
			}
		}
		if v.done {
			return send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{Observation: v.record.GetObservation()}})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return rterr.Wrap(rterr.Cancelled, "follow action", ctx.Err())
		}
	}
}

// drain sends what there is, the channels by turns.
func (r *reading) drain(ctx context.Context, channels []channel) error {
	for more := true; more; {
		more = false
		for _, c := range channels {
			sent, err := r.one(c)
			if err != nil {
				return err
			}
			more = more || sent
		}
		if ctx.Err() != nil {
			return rterr.Wrap(rterr.Cancelled, "follow action", ctx.Err())
		}
	}
	return nil
}

// one sends at most one event of a channel.
func (r *reading) one(c channel) (sent bool, err error) {
	off := r.offsets[c.name]
	end, _ := c.End()
	if off >= end {
		return false, nil
	}
	data := make([]byte, min(end-off, maxChunk))
	n, gap, err := r.reader(c).ReadAt(data, off)
	if err != nil {
		return false, rterr.Wrap(rterr.Internal, "read spilled output", err)
	}
	event := &agentv1.ActionEvent{}
	if gap > 0 {
		event.Event = &agentv1.ActionEvent_Gap{Gap: &agentv1.Gap{Channel: c.name, Offset: off, Length: gap}}
	} else {
		event.Event = &agentv1.ActionEvent_Output{Output: &agentv1.Output{Channel: c.name, Offset: off, Data: data[:n]}}
	}
	r.offsets[c.name] = off + gap + uint64(n)
	return n > 0 || gap > 0, r.send(event)
}

func (r *reading) reader(c channel) *spool.Reader {
	if r.readers[c.name] == nil {
		r.readers[c.name] = c.Reader()
	}
	return r.readers[c.name]
}

func (r *reading) close() {
	for _, reader := range r.readers {
		reader.Close()
	}
}
