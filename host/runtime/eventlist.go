package runtime

import (
	"context"
	"slices"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Events returns a runtime's events from the durable log; without ref those of all of the caller's runtimes that are still known.
func (m *Manager) Events(ctx context.Context, ref string, after uint64, limit int) ([]*runtimev1.RuntimeEvent, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if limit <= 0 || limit > maxListed {
		limit = maxListed
	}
	if ref != "" {
		r, err := m.find(ctx, ref)
		if err != nil {
			return nil, err
		}
		return m.opts.Events.ListEvents(ctx, r.id, after, limit)
	}
	all, err := m.opts.Events.ListEvents(ctx, "", after, limit)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(all, func(ev *runtimev1.RuntimeEvent) bool {
		r := m.runtimes[ev.GetRuntimeId()]
		return r == nil || r.principal() != p.ID
	}), nil
}

// WatchEvents calls send with the logged events after a sequence, oldest first, and then with each new one, until ctx ends or send
// fails: those of a runtime, or of all of the caller's, later ones too, if ref is empty. With newOnly it begins with what happens
// from now on. A caller that is slow reads what it has missed from the log, so that it loses only what the log no longer has.
func (m *Manager) WatchEvents(ctx context.Context, ref string, after uint64, newOnly bool, send func(*runtimev1.RuntimeEvent) error) error {
	p, err := principal(ctx)
	if err != nil {
		return err
	}
	id := everyRuntime
	if ref != "" {
		r, err := m.find(ctx, ref)
		if err != nil {
			return err
		}
		id = r.id
	}
	w, err := m.hub.watch(id)
	if err != nil {
		return err
	}
	defer w.close()
	if newOnly {
		after = m.hub.sequence.Load()
	}
	f := &follower{m: m, principal: p.ID, runtime: id, after: after, send: send}
	for {
		if err := f.catchUp(ctx); err != nil {
			return err
		}
		if err := f.live(ctx, w); err != nil {
			return err
		}
	}
}

// follower is one reader of events, and the last one that it has got.
type follower struct {
	m                  *Manager
	principal, runtime string
	after              uint64
	send               func(*runtimev1.RuntimeEvent) error
}

// catchUp reads the log to its end.
func (f *follower) catchUp(ctx context.Context) error {
	for {
		list, err := f.m.opts.Events.ListEvents(ctx, f.runtime, f.after, maxListed)
		if err != nil {
			return rterr.Wrap(rterr.Unavailable, "watch events", err)
		}
		for _, ev := range list {
			if err := f.give(ev); err != nil {
				return err
			}
		}
		if len(list) < maxListed {
			return nil
		}
	}
}

// live hands on what happens, until something was missed.
func (f *follower) live(ctx context.Context, w *watcher) error {
	for {
		ev, err := w.next(ctx)
		if err != nil {
			return rterr.Wrap(rterr.Cancelled, "watch events", err)
		}
		if ev.GetMissed() > 0 {
			return nil
		}
		if err := f.give(ev); err != nil {
			return err
		}
	}
}

func (f *follower) give(ev *runtimev1.RuntimeEvent) error {
	if ev.GetSequence() <= f.after {
		return nil
	}
	f.after = ev.GetSequence()
	if !f.m.owns(f.principal, ev.GetRuntimeId()) {
		return nil
	}
	return f.send(ev)
}

func (m *Manager) owns(principal, id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.runtimes[id]
	return r != nil && r.principal() == principal
}
