package store

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The bounds of a queue of writes.
const (
	behindEntries = 8192
	behindBytes   = 16 << 20
)

// behindLinger is how long the first value of a batch waits for more, and for a newer one of its key: most actions begin and end
// within it, and are written once. What the process has not written when it is killed is lost to the index, not to its agent.
const behindLinger = 10 * time.Millisecond

// The pauses after a write that failed for a passing reason.
const (
	behindFirstPause = 50 * time.Millisecond
	behindLastPause  = 5 * time.Second
)

// behind writes values in the background, in the order in which their keys came, the newest value of each key. One goroutine
// writes; close ends it.
type behind[T any] struct {
	write   func(ctx context.Context, key Key, value T) error
	log     hclog.Logger
	dropped atomic.Uint64

	mu      sync.Mutex
	waiting map[Key]pending[T]
	order   []Key
	// writing is the value that is being written, so that it can be read meanwhile.
	writing *pending[T]
	bytes   int
	closed  bool
	// hurried counts those who wait for writes; batch is how many more values are written before the next linger.
	hurried, batch int
	// changed is closed and replaced when something has been written, dropped or put.
	changed chan struct{}

	cancel context.CancelFunc
	ended  chan struct{}
}

type pending[T any] struct {
	key   Key
	value T
	size  int
}

func newBehind[T any](write func(context.Context, Key, T) error, log hclog.Logger) *behind[T] {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:gosec // close calls it
	b := &behind[T]{
		write: write, log: log, waiting: map[Key]pending[T]{}, changed: make(chan struct{}), cancel: cancel, ended: make(chan struct{}),
	}
	go b.run(ctx)
	return b
}

// notify wakes all who wait for a change. b.mu is held.
func (b *behind[T]) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// until waits until ready, called with b.mu held, is true. It returns with b.mu held, also on error.
func (b *behind[T]) until(ctx context.Context, ready func() bool) error {
	for !ready() {
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			b.mu.Lock()
			return ctx.Err()
		case <-changed:
			b.mu.Lock()
		}
	}
	return nil
}

func (b *behind[T]) put(ctx context.Context, key Key, value T, size int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.until(ctx, func() bool {
		old, replaces := b.waiting[key]
		room := b.bytes-old.size+size <= behindBytes && (replaces || len(b.order) < behindEntries)
		return b.closed || room || len(b.order) == 0
	})
	if err != nil || b.closed {
		b.dropped.Add(1)
		if err == nil {
			return rterr.New(rterr.Unavailable, "write "+string(key), "the store is closed")
		}
		return rterr.Wrap(rterr.Unavailable, "write "+string(key)+": the queue is full", err)
	}
	b.enqueue(pending[T]{key, value, size})
	return nil
}

// enqueue adds p, in place of an older value of its key. b.mu is held.
func (b *behind[T]) enqueue(p pending[T]) {
	old, replaces := b.waiting[p.key]
	if !replaces {
		b.order = append(b.order, p.key)
	}
	b.bytes += p.size - old.size
	b.waiting[p.key] = p
	b.notify()
}

func (b *behind[T]) get(key Key) (T, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.waiting[key]; ok {
		return p.value, true
	}
	if b.writing != nil && b.writing.key == key {
		return b.writing.value, true
	}
	var none T
	return none, false
}

// all returns a copy of what is not written yet.
func (b *behind[T]) all() map[Key]T {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[Key]T, len(b.waiting)+1)
	if b.writing != nil {
		out[b.writing.key] = b.writing.value
	}
	for key, p := range maps.All(b.waiting) {
		out[key] = p.value
	}
	return out
}

func (b *behind[T]) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.order)
}

// flush waits until nothing is left to write.
func (b *behind[T]) flush(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.hurry()()
	err := b.until(ctx, func() bool { return len(b.order) == 0 && b.writing == nil })
	return rterr.Wrap(rterr.Unavailable, "flush", err)
}

// flushKey waits until no value of key is left to write.
func (b *behind[T]) flushKey(ctx context.Context, key Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.hurry()()
	lost := b.dropped.Load()
	err := b.until(ctx, func() bool {
		_, waits := b.waiting[key]
		return !waits && (b.writing == nil || b.writing.key != key)
	})
	if err == nil && b.dropped.Load() > lost {
		return rterr.New(rterr.Unavailable, "write "+string(key), "writes were dropped meanwhile")
	}
	return rterr.Wrap(rterr.Unavailable, "write "+string(key), err)
}

// hurry ends a linger until what it returns is called. b.mu is held both times.
func (b *behind[T]) hurry() func() {
	b.hurried++
	b.notify()
	return func() { b.hurried-- }
}

// linger waits for more to write. b.mu is held.
func (b *behind[T]) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, behindLinger)
	defer cancel()
	_ = b.until(ctx, func() bool { // the end of the linger is no error
		return b.hurried > 0 || b.closed || len(b.order) >= behindEntries/2 || b.bytes >= behindBytes/2
	})
	b.batch = len(b.order) - 1
}

// close writes what waits until ctx ends, and ends the goroutine.
func (b *behind[T]) close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.notify()
	b.mu.Unlock()
	err := b.flush(ctx)
	b.cancel()
	<-b.ended
	if err != nil {
		return rterr.New(rterr.Unavailable, "write what waits", "%d records were not written", b.len()).WithCause(err)
	}
	return nil
}

// run writes until ctx ends.
func (b *behind[T]) run(ctx context.Context) {
	defer close(b.ended)
	pause := behindFirstPause
	for {
		p, ok := b.next(ctx)
		if !ok {
			return
		}
		err := b.write(ctx, p.key, p.value)
		again := err != nil && rterr.From(err).Retryable
		b.finish(p, err, again)
		if !again {
			pause = behindFirstPause
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause = min(2*pause, behindLastPause)
		}
	}
}

// next takes the oldest waiting value, and blocks while there is none.
func (b *behind[T]) next(ctx context.Context) (pending[T], bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until(ctx, func() bool { return len(b.order) > 0 }) != nil || ctx.Err() != nil {
		return pending[T]{}, false
	}
	if b.batch--; b.batch < 0 {
		b.linger(ctx)
	}
	if ctx.Err() != nil {
		return pending[T]{}, false
	}
	p := b.waiting[b.order[0]]
	b.order = b.order[1:]
	delete(b.waiting, p.key)
	b.writing = &p
	return p, true
}

// finish ends the writing of p. What failed for a passing reason waits again, unless a newer value of its key came meanwhile.
func (b *behind[T]) finish(p pending[T], err error, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = nil
	b.bytes -= p.size
	_, newer := b.waiting[p.key]
	switch {
	case err == nil:
	case again && !newer:
		b.enqueue(p)
		b.log.Warn("store write failed, trying again", "key", string(p.key), "error", err)
	case !newer:
		b.dropped.Add(1)
		b.log.Error("store write dropped", "key", string(p.key), "error", err)
	}
	b.notify()
}
