package store

import (
	"context"
	"hash/maphash"
	"maps"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
)

// indexLimit bounds the keys that an index holds: a few megabytes.
const indexLimit = 200_000

// index says which keys a bucket surely does not have, so that the question costs no round trip. Only the one process that
// writes a bucket may use it. Of keys that have gone by their own time it says "maybe" until it has grown so much that it is
// read anew.
type index struct {
	seed maphash.Seed
	// stale has a value while the index has to be read.
	stale chan struct{}

	mu sync.Mutex
	// keys is nil while nothing is known; added are then those that came meanwhile.
	keys, added map[uint64]struct{}
}

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed(), stale: make(chan struct{}, 1), added: map[uint64]struct{}{}}
	x.stale <- struct{}{}
	return x
}

// lacks reports whether the key is surely not there.
func (x *index) lacks(key Key) bool {
	if x == nil {
		return false
	}
	sum := maphash.String(x.seed, string(key))
	x.mu.Lock()
	defer x.mu.Unlock()
	_, there := x.keys[sum]
	return x.keys != nil && !there
}

// add notes a key before it is written.
func (x *index) add(key Key) {
	if x == nil {
		return
	}
	sum := maphash.String(x.seed, string(key))
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keys == nil {
		if x.added != nil {
			x.added[sum] = struct{}{}
		}
		return
	}
	x.keys[sum] = struct{}{}
	if len(x.keys) >= indexLimit {
		x.keys, x.added = nil, map[uint64]struct{}{}
		x.stale <- struct{}{} // there is room: it was read since the last time
	}
}

// keep reads the bucket's keys whenever that is needed, until ctx ends. A bucket with too many keys has no index.
func (x *index) keep(ctx context.Context, kv jetstream.KeyValue, log hclog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.stale:
		}
		if err := x.read(ctx, kv); err != nil && ctx.Err() == nil {
			log.Warn("the bucket's keys were not read; each new one costs a look", "error", err)
		}
	}
}

func (x *index) read(ctx context.Context, kv jetstream.KeyValue) error {
	keys := map[uint64]struct{}{}
	err := eachKey(ctx, kv, func(key string) bool {
		keys[maphash.String(x.seed, key)] = struct{}{}
		return len(keys) < indexLimit/2 // with more it would soon be read again
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil && len(keys) < indexLimit/2 {
		maps.Copy(keys, x.added)
		x.keys = keys
	}
	x.added = nil
	return err
}

// eachKey calls do with every key of a bucket until that says no.
func eachKey(ctx context.Context, kv jetstream.KeyValue, do func(string) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the client's goroutine for a watch ends with its context alone
	watcher, err := kv.WatchAll(ctx, jetstream.MetaOnly(), jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }() // the subscription is gone if this fails
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-watcher.Updates():
			if !ok {
				return jetstream.ErrConsumerNotFound
			}
			if entry == nil || !do(entry.Key()) {
				return nil
			}
		}
	}
}
