package host

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/host/store"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// eventQueue is how many events may wait to be written.
const eventQueue = 4096

// eventLog is runtime.EventLog on the store: a bounded queue and one writer. What does not fit is counted and missing.
type eventLog struct {
	log     *store.Log
	queue   chan *runtimev1.RuntimeEvent
	done    sync.WaitGroup
	dropped atomic.Uint64
	logger  hclog.Logger
}

var _ runtime.EventLog = (*eventLog)(nil)

func newEventLog(log *store.Log, logger hclog.Logger) *eventLog {
	l := &eventLog{log: log, queue: make(chan *runtimev1.RuntimeEvent, eventQueue), logger: logger}
	l.done.Go(l.write)
	return l
}

// Append queues an event.
func (l *eventLog) Append(ev *runtimev1.RuntimeEvent) {
	select {
	case l.queue <- ev:
	default:
		if l.dropped.Add(1)%1000 == 1 {
			l.logger.Warn("events are produced faster than they can be written; some are missing from the log")
		}
	}
}

func (l *eventLog) write() {
	for ev := range l.queue {
		data, err := proto.Marshal(ev)
		if err == nil {
			_, err = l.log.Append(context.Background(), store.KeyOf(ev.GetRuntimeId()), data)
		}
		if err != nil {
			l.dropped.Add(1)
			l.logger.Warn("an event was not written", "sequence", ev.GetSequence(), "error", err)
		}
	}
}

// close writes what is queued. Append must not be called afterwards.
func (l *eventLog) close() {
	close(l.queue)
	l.done.Wait()
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
	var out []*runtimev1.RuntimeEvent
	var keys []string // none: every runtime
	if runtimeID != "" {
		keys = []string{runtimeID}
	}
	for at := uint64(0); len(out) < limit; {
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
