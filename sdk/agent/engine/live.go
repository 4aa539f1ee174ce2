package engine

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// controller is what runs an action.
type controller interface {
	// interrupt signals the action; signalled is false if it is over.
	interrupt(l *live, level agentv1.InterruptLevel) (signalled bool, err error)
	// resize sets the size of its terminal; IllegalState if it has none.
	resize(l *live, rows, cols uint16) error
	// cut ends it because the engine closes.
	cut(l *live)
}

// channel is a spooled channel and its name on the wire.
type channel struct {
	name agentv1.Channel
	*spool.Channel
}

// view is one look at an action. record and observation are read-only.
type view struct {
	record   *agentv1.ActionRecord
	channels []channel
	done     bool
}

// live is an action that readers can follow: queued, running, or done.
type live struct {
	id      string
	timeout time.Duration
	by      controller
	wake    spool.Signal
	// input is nil if the action takes none.
	input *input

	mu sync.Mutex
	// record is replaced, never changed.
	record   *agentv1.ActionRecord
	channels []channel
	// level of the strongest interrupt so far.
	level agentv1.InterruptLevel
	// sequence of the last resize.
	sequence uint64
	resized  bool
}

func (l *live) snapshot() view {
	l.mu.Lock()
	defer l.mu.Unlock()
	return view{record: l.record, channels: l.channels, done: l.record.GetState() == agentv1.ActionState_ACTION_STATE_DONE}
}

// change replaces the record by a changed copy.
func (l *live) change(f func(*agentv1.ActionRecord)) *agentv1.ActionRecord {
	l.mu.Lock()
	next := proto.CloneOf(l.record)
	f(next)
	l.record = next
	l.mu.Unlock()
	l.wake.Wake()
	return next
}

// open adds a channel that readers can follow from now on.
func (l *live) open(name agentv1.Channel, c *spool.Channel) {
	l.mu.Lock()
	l.channels = append(l.channels[:len(l.channels):len(l.channels)], channel{name, c})
	l.mu.Unlock()
	l.wake.Wake()
}

// interrupted notes an interrupt and returns the strongest level so far.
func (l *live) interrupted(level agentv1.InterruptLevel) agentv1.InterruptLevel {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level = max(l.level, level)
	return l.level
}

func (l *live) wasInterrupted() bool { return l.interrupted(0) > 0 }

func (l *live) cut() {
	if l.by != nil {
		l.by.cut(l)
	}
}

// result is how an action ended; the rest of the observation is known.
type result struct {
	outcome  agentv1.Outcome
	payload  []byte
	exitCode *int32
	err      *agentv1.ErrorDetail
}

// complete makes an action done: channels final, recorded, told. The journal has it before readers do.
func (e *Engine) complete(l *live, r result) {
	if l.input != nil {
		l.input.stop()
	}
	v := l.snapshot()
	obs := &agentv1.Observation{ActionId: l.id, Outcome: r.outcome, Payload: r.payload, Error: r.err, ExitCode: r.exitCode,
		StartedAt: v.record.GetStartedAt(), FinishedAt: timestamppb.Now()}
	var kept []*agentv1.Output
	for _, c := range v.channels {
		if small, ok := c.Finish(); ok && len(small) > 0 {
			kept = append(kept, &agentv1.Output{Channel: c.name, Data: small})
		}
		length, _ := c.End()
		obs.Channels = append(obs.Channels, &agentv1.ChannelEnd{Channel: c.name, Length: length, RetainedFrom: c.RetainedFrom()})
	}
	done := proto.CloneOf(v.record)
	done.State, done.FinishedAt, done.Observation = agentv1.ActionState_ACTION_STATE_DONE, obs.FinishedAt, obs
	err := e.journal.Put(done, kept...)
	l.mu.Lock()
	l.record = done
	l.mu.Unlock()
	if err != nil {
		// It stays in memory: known, answered, and lost only if the agent dies.
		e.log.Error("cannot record the end of an action", "action", l.id, "error", err)
	} else {
		e.mu.Lock()
		delete(e.live, l.id)
		e.mu.Unlock()
	}
	l.wake.Wake()
}

// fail makes an action done that has never run.
func (e *Engine) fail(l *live, err *rterr.Error) {
	e.complete(l, result{outcome: agentv1.Outcome_OUTCOME_FAILED, err: detailOf(err.WithRan(rterr.RanNo))})
}

// withdraw makes an action done that was interrupted before it ran.
func (e *Engine) withdraw(l *live, payload []byte) {
	cause := rterr.New(rterr.Cancelled, "", "it was interrupted before it began").WithRan(rterr.RanNo)
	e.complete(l, result{outcome: agentv1.Outcome_OUTCOME_INTERRUPTED, payload: payload, err: detailOf(cause)})
}
