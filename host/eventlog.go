package host

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/host/store"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	// eventQueue is how many events may wait to be written.
	eventQueue = 4096
	// eventLinger is how long the first event of a batch waits for others.
	eventLinger = 10 * time.Millisecond
	// eventLimit bounds the writing of a batch.
	eventLimit = 10 * time.Second
)

// eventLog is runtime.EventLog on the store: a bounded queue and one writer of batches. What does not fit is counted and missing.
type eventLog struct {
	log     *store.Log
	logger  hclog.Logger
	dropped atomic.Uint64

	// wake has a value when the queue is not empty, hurry when somebody waits for it or it is half full.
	wake, hurry chan struct{}
	ended       chan struct{}

	mu     sync.Mutex
	queue  []*runtimev1.RuntimeEvent
	closed bool
	// written is closed and replaced after each batch; taken says that one is being written.
	written chan struct{}
	taken   bool
}

var _ runtime.EventLog = (*eventLog)(nil)

func newEventLog(log *store.Log, logger hclog.Logger) *eventLog {
	l := &eventLog{
		log: log, logger: logger, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), ended: make(chan struct{}),
		written: make(chan struct{}),
	}
	go l.run()
	return l
}

// Append queues an event.
func (l *eventLog) Append(ev *runtimev1.RuntimeEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= eventQueue {
		if l.dropped.Add(1)%1000 == 1 {
			l.logger.Warn("events are produced faster than they can be written; some are missing from the log")
		}
		return
	}
	l.queue = append(l.queue, ev)
	notify(l.wake)
	if len(l.queue) >= eventQueue/2 {
		notify(l.hurry)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes a batch at a time until close.
func (l *eventLog) run() {
	defer close(l.ended)
	timer := time.NewTimer(eventLinger)
	for range l.wake {
		timer.Reset(eventLinger)
		select {
		case <-timer.C:
		case <-l.hurry:
		}
		l.mu.Lock()
		batch, closed := l.queue, l.closed
		l.queue, l.taken = nil, true
		l.mu.Unlock()
		l.write(batch)
		l.mu.Lock()
		l.taken = false
		close(l.written)
		l.written = make(chan struct{})
		l.mu.Unlock()
		if closed {
			return
		}
	}
}

func (l *eventLog) write(batch []*runtimev1.RuntimeEvent) {
	ctx, cancel := context.WithTimeout(context.Background(), eventLimit)
	defer cancel()
	waits := make([]func(context.Context) (uint64, error), 0, len(batch))
	for _, ev := range batch {
		data, err := proto.Marshal(ev)
		if err != nil {
			waits = append(waits, func(context.Context) (uint64, error) { return 0, err })
			continue
		}
		waits = append(waits, l.log.Begin(store.KeyOf(ev.GetRuntimeId()), data))
	}
	for i, wait := range waits {
		if _, err := wait(ctx); err != nil {
			l.dropped.Add(1)
			l.logger.Warn("an event was not written", "sequence", batch[i].GetSequence(), "error", err)
		}
	}
}

// flush waits until what was appended before is written, or ctx ends.
func (l *eventLog) flush(ctx context.Context) error {
	for rounds := 2; rounds > 0; rounds-- { // the batch that is being written, and that of the queue
		l.mu.Lock()
		idle, written := len(l.queue) == 0 && !l.taken, l.written
		l.mu.Unlock()
		if idle {
			return nil
		}
		notify(l.hurry)
		select {
		case <-written:
		case <-l.ended:
			return nil
		case <-ctx.Done():
			return rterr.Wrap(rterr.Timeout, "read events", ctx.Err())
		}
	}
	return nil
}

// close writes what is queued and ends. What is appended afterwards is dropped.
func (l *eventLog) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	notify(l.wake)
	notify(l.hurry)
	<-l.ended
}

// lastSequence is that of the newest event that was written, 0 if there is none.
func (l *eventLog) lastSequence(ctx context.Context) (uint64, error) {
	last, err := l.log.Last(ctx)
	if err != nil || last == 0 {
		return 0, err
	}
	rows, err := l.log.Read(ctx, last-1, 1)
	if err != nil || len(rows) == 0 {
		return last, err
	}
	ev := &runtimev1.RuntimeEvent{}
	if err := proto.Unmarshal(rows[0].Data, ev); err != nil {
		return 0, rterr.Wrap(rterr.Integrity, "read event", err)
	}
	return max(ev.GetSequence(), last), nil
}

// ListEvents returns a runtime's events, oldest first. The log is bounded, and so is what is read of it.
func (l *eventLog) ListEvents(ctx context.Context, runtimeID string, after uint64, limit int) ([]*runtimev1.RuntimeEvent, error) {
	if err := l.flush(ctx); err != nil {
		return nil, err
	}
	var out []*runtimev1.RuntimeEvent
	var keys []string // none: every runtime
	if runtimeID != "" {
		keys = []string{runtimeID}
	}
	at, err := l.before(ctx, after)
	if err != nil {
		return nil, err
	}
	for len(out) < limit {
		rows, err := l.log.Read(ctx, at, limit, keys...)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return out, nil
		}
		for _, row := range rows {
			ev := &runtimev1.RuntimeEvent{}
			if err := proto.Unmarshal(row.Data, ev); err != nil {
				return nil, rterr.Wrap(rterr.Integrity, "read event", err)
			}
			if ev.GetSequence() > after && len(out) < limit {
				out = append(out, ev)
			}
			at = row.Sequence
		}
	}
	return out, nil
}

// before returns a place in the log from which all events with a sequence above after follow, and few others. Both numbers grow
// together, but not in step: an event that was not written has a sequence and no place.
func (l *eventLog) before(ctx context.Context, after uint64) (uint64, error) {
	if after == 0 {
		return 0, nil
	}
	high, err := l.log.Last(ctx)
	if err != nil {
		return 0, err
	}
	low := uint64(0)
	for low < high {
		middle := low + (high-low)/2
		rows, err := l.log.Read(ctx, middle, 1)
		if err != nil {
			return 0, err
		}
		ev := &runtimev1.RuntimeEvent{}
		if len(rows) > 0 {
			if err := proto.Unmarshal(rows[0].Data, ev); err != nil {
				return 0, rterr.Wrap(rterr.Integrity, "read event", err)
			}
		}
		if len(rows) == 0 || ev.GetSequence() > after {
			high = middle
			continue
		}
		low = rows[0].Sequence
	}
	return low, nil
}
