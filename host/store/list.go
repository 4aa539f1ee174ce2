package store

import (
	"context"
	"errors"
	"iter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Change is one step of a watched bucket.
type Change[T any] struct {
	Entry[T]
	// Deleted: the record went away; the value is zero.
	Deleted bool
	// Current: the last change that was there when the watch began. It has no entry.
	Current bool
}

// List goes through the records whose key matches the tokens, Wild standing for any one token; without tokens through all. Oldest
// write first. A record that cannot be read comes with its key and an error, and the walk goes on; an error without a key ends it.
func (b *Bucket[T]) List(ctx context.Context, tokens ...string) iter.Seq2[Entry[T], error] {
	return func(yield func(Entry[T], error) bool) {
		ctx, cancel := bound(ctx)
		defer cancel()
		for change, err := range b.watch(ctx, tokens, jetstream.IgnoreDeletes()) {
			if change.Current || !yield(change.Entry, err) {
				return
			}
		}
	}
}

// Watch goes through the records as List does, then a change with Current, and then every change until ctx ends, which is the
// last error. A consumer that is slow is waited for.
func (b *Bucket[T]) Watch(ctx context.Context, tokens ...string) iter.Seq2[Change[T], error] {
	return b.watch(ctx, tokens)
}

func (b *Bucket[T]) watch(ctx context.Context, tokens []string, opts ...jetstream.WatchOpt) iter.Seq2[Change[T], error] {
	return func(yield func(Change[T], error) bool) {
		pattern := ">"
		if len(tokens) > 0 {
			pattern = patternOf(tokens)
		}
		// The client's goroutine for a watch ends with its context alone, not with Stop.
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		watcher, err := b.kv.Watch(own, pattern, opts...)
		if err != nil {
			yield(Change[T]{}, b.failed("list", Key(pattern), err))
			return
		}
		defer func() { _ = watcher.Stop() }() // the subscription is gone if this fails
		for b.step(ctx, watcher, yield) {
		}
	}
}

// step hands on one change, and says whether to go on.
func (b *Bucket[T]) step(ctx context.Context, watcher jetstream.KeyWatcher, yield func(Change[T], error) bool) bool {
	cancelled := func() bool {
		yield(Change[T]{}, rterr.Wrap(rterr.Cancelled, "list "+b.codec.bucket, ctx.Err()))
		return false
	}
	select {
	case <-ctx.Done():
		return cancelled()
	case raw, ok := <-watcher.Updates():
		switch {
		case !ok && ctx.Err() != nil: // The end of ctx closes the updates too, and either may be seen first.
			return cancelled()
		case !ok:
			yield(Change[T]{}, rterr.New(rterr.Unavailable, "list "+b.codec.bucket, "the store was closed"))
			return false
		case raw == nil:
			return yield(Change[T]{Current: true}, nil)
		case raw.Operation() != jetstream.KeyValuePut:
			return yield(Change[T]{Entry: Entry[T]{Key: Key(raw.Key()), Revision: raw.Revision(), At: raw.Created()}, Deleted: true}, nil)
		default:
			e, err := b.entry(raw)
			return yield(Change[T]{Entry: e}, err)
		}
	}
}

// All collects List. Records that cannot be read are left out, and joined in the error.
func (b *Bucket[T]) All(ctx context.Context, tokens ...string) ([]Entry[T], error) {
	var all []Entry[T]
	var failed []error
	for e, err := range b.List(ctx, tokens...) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, e)
	}
	return all, errors.Join(failed...)
}
