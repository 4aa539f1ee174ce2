package store

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Actions is the index of actions. Writes go behind: Put returns at once, and what is not written yet is read from memory.
type Actions struct {
	bucket *Bucket[Action]
	behind *behind[Action]
	done   time.Duration
	// known is nil where other processes write too.
	known *index
	// reading is the goroutine that keeps known; cancel ends it.
	reading sync.WaitGroup
	cancel  context.CancelFunc
}

func newActions(bucket *Bucket[Action], done time.Duration, alone bool, log hclog.Logger) *Actions {
	log = log.Named("actions")
	ctx, cancel := context.WithCancel(context.Background()) //nolint:gosec // close calls it
	a := &Actions{bucket: bucket, done: done, cancel: cancel}
	a.behind = newBehind(a.write, log)
	if alone {
		a.known = newIndex()
		a.reading.Go(func() { a.known.keep(ctx, bucket.kv, log) })
	}
	return a
}

func (a *Actions) write(ctx context.Context, key Key, entry Action) error {
	ttl := time.Duration(0)
	if entry.Done() {
		ttl = a.done
	}
	_, err := a.bucket.Put(ctx, key, entry, ttl)
	return err
}

func actionKey(runtimeID, id string) Key { return KeyOf(runtimeID, id) }

// Put writes an action's entry behind, in place of an earlier one that still waits. It blocks only while the queue is full, at
// most until ctx ends; then the entry is dropped, counted, and the error says so.
func (a *Actions) Put(ctx context.Context, entry Action) error {
	if len(entry.Observation) > MaxObservation {
		entry.Observation, entry.ObservationDropped = nil, true
	}
	size := 512 + len(entry.Observation) + len(entry.Summary)
	key := actionKey(entry.RuntimeID, entry.ID)
	a.known.add(key)
	return a.behind.put(ctx, key, entry, size)
}

// PutNow writes an action's entry and returns when it is stored: ahead of the action, for backends without an agent.
func (a *Actions) PutNow(ctx context.Context, entry Action) error {
	if err := a.Put(ctx, entry); err != nil {
		return err
	}
	return a.behind.flushKey(ctx, actionKey(entry.RuntimeID, entry.ID))
}

// Get returns an action's entry; rterr.NotFound if there is none.
func (a *Actions) Get(ctx context.Context, runtimeID, id string) (Action, error) {
	key := actionKey(runtimeID, id)
	if waiting, ok := a.behind.get(key); ok {
		return waiting, nil
	}
	if a.known.lacks(key) {
		return Action{}, rterr.New(rterr.NotFound, "get "+string(key), "there is none")
	}
	e, err := a.bucket.Get(ctx, key)
	return e.Value, err
}

// Find returns every runtime's action of that id, in no order.
func (a *Actions) Find(ctx context.Context, id string) ([]Action, error) {
	return a.list(ctx, func(e Action) bool { return e.ID == id }, Wild, id)
}

// List returns the actions of a runtime, in no order; all of them for an empty id.
func (a *Actions) List(ctx context.Context, runtimeID string) ([]Action, error) {
	if runtimeID == "" {
		return a.list(ctx, func(Action) bool { return true })
	}
	return a.list(ctx, func(e Action) bool { return e.RuntimeID == runtimeID }, runtimeID, Wild)
}

func (a *Actions) list(ctx context.Context, match func(Action) bool, tokens ...string) ([]Action, error) {
	before := a.behind.all()
	stored, err := a.bucket.All(ctx, tokens...)
	found := map[Key]Action{}
	for _, e := range stored {
		found[e.Key] = e.Value
	}
	waiting := a.behind.all()
	for key, e := range before {
		if _, still := waiting[key]; still || !match(e) {
			continue
		}
		// Written while the list was read, which may have its old value or none.
		written, getErr := a.bucket.Get(ctx, key)
		if getErr == nil {
			e = written.Value
		}
		found[key] = e
	}
	for key, e := range waiting {
		if match(e) {
			found[key] = e
		}
	}
	return slices.Collect(maps.Values(found)), rterr.Wrap(rterr.Unavailable, "list actions", err)
}

// Flush returns when everything that was put before has been written, or ctx ends.
func (a *Actions) Flush(ctx context.Context) error { return a.behind.flush(ctx) }

// Dropped returns how many entries could not be written since the store was opened, for metrics.
func (a *Actions) Dropped() uint64 { return a.behind.dropped.Load() }

// Waiting returns how many entries wait to be written.
func (a *Actions) Waiting() int { return a.behind.len() }

func (a *Actions) close(ctx context.Context) error {
	a.cancel()
	a.reading.Wait()
	return a.behind.close(ctx)
}
