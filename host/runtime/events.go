package runtime

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/types/known/timestamppb"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// EventLog is the durable log behind the hub. Append must not block on a disk or a network; ListEvents may.
type EventLog interface {
	// Append takes ev to be written soon. ev must not be changed afterwards.
	Append(ev *runtimev1.RuntimeEvent)
	// ListEvents returns at most limit events with a sequence above after, oldest first: of a runtime, or of all if its id is empty.
	// What was appended before the call is listed.
	ListEvents(ctx context.Context, runtimeID string, after uint64, limit int) ([]*runtimev1.RuntimeEvent, error)
}

// hub hands each event to the durable log and to whoever watches. Publishing never blocks: a watcher whose queue is full misses
// events, and the next one that it gets is preceded by the number of those.
type hub struct {
	log      EventLog
	sequence atomic.Uint64
	capacity int
	limit    int

	mu       sync.Mutex
	watchers map[string]map[*watcher]struct{}
}

func newHub(log EventLog, last uint64, capacity, limit int) *hub {
	h := &hub{log: log, capacity: capacity, limit: limit, watchers: map[string]map[*watcher]struct{}{}}
	h.sequence.Store(last)
	return h
}

// publish numbers and dates ev and gives it away; ev must not be changed afterwards.
func (h *hub) publish(ev *runtimev1.RuntimeEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ev.Sequence = h.sequence.Add(1)
	ev.At = timestamppb.Now()
	h.log.Append(ev)
	for w := range h.watchers[ev.GetRuntimeId()] {
		w.offer(ev)
	}
	for w := range h.watchers[everyRuntime] {
		w.offer(ev)
	}
}

// everyRuntime is what a watcher of all runtimes watches; no runtime has this id.
const everyRuntime = ""

// watch returns a watcher of one runtime's events, or of everyRuntime's, from now on; too many are LimitExceeded. Close it.
func (h *hub) watch(runtimeID string) (*watcher, error) {
	w := &watcher{hub: h, runtimeID: runtimeID, events: make(chan *runtimev1.RuntimeEvent, h.capacity)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers[runtimeID]) >= h.limit {
		return nil, rterr.New(rterr.LimitExceeded, "watch runtime "+runtimeID, "%d watch it already", h.limit).
			With("limit", "limits.subscribers")
	}
	if h.watchers[runtimeID] == nil {
		h.watchers[runtimeID] = map[*watcher]struct{}{}
	}
	h.watchers[runtimeID][w] = struct{}{}
	return w, nil
}

// watcher is one reader of a runtime's events.
type watcher struct {
	hub       *hub
	runtimeID string
	events    chan *runtimev1.RuntimeEvent
	missed    atomic.Uint64
}

// offer is called with the hub's lock held. After a loss all are missed until the reader has been told, so that the number
// stands where the hole is.
func (w *watcher) offer(ev *runtimev1.RuntimeEvent) {
	if w.missed.Load() > 0 {
		w.missed.Add(1)
		return
	}
	select {
	case w.events <- ev:
	default:
		w.missed.Add(1)
	}
}

// next blocks for the next event. After a loss, an event that says how many were missed comes before the next real one.
func (w *watcher) next(ctx context.Context) (*runtimev1.RuntimeEvent, error) {
	select {
	case ev := <-w.events:
		return ev, nil
	default:
	}
	if n := w.missed.Swap(0); n > 0 {
		return &runtimev1.RuntimeEvent{
			RuntimeId: w.runtimeID, At: timestamppb.Now(), Event: &runtimev1.RuntimeEvent_Missed{Missed: n},
		}, nil
	}
	select {
	case ev := <-w.events:
		return ev, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (w *watcher) close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	delete(w.hub.watchers[w.runtimeID], w)
	if len(w.hub.watchers[w.runtimeID]) == 0 {
		delete(w.hub.watchers, w.runtimeID)
	}
}
