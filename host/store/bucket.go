package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// BucketConfig is what a bucket is.
type BucketConfig struct {
	// Name of [a-z_]+.
	Name string
	// Schema is the number that is written, counted from 1.
	Schema int
	// Migrations by the schema that they lead on from.
	Migrations map[int]Migration
	// MaxBytes bounds the bucket. When it is full, new writes are refused, or with DropOldest the oldest records go.
	MaxBytes   int64
	DropOldest bool
	// MaxValue bounds a record; default 64 KiB.
	MaxValue int
}

// Bucket is a durable map from keys to values of T, the last value of each. Values are copied in and out.
type Bucket[T any] struct {
	codec  codec
	kv     jetstream.KeyValue
	js     jetstream.JetStream
	prefix string
}

// Entry is a record that was read.
type Entry[T any] struct {
	Key   Key
	Value T
	// Revision is for Update and Delete: it changes with every write.
	Revision uint64
	At       time.Time
}

// OpenBucket opens a bucket, making it if it is missing, and puts its bounds in force.
func OpenBucket[T any](ctx context.Context, s *Store, cfg BucketConfig) (*Bucket[T], error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	if cfg.MaxValue == 0 {
		cfg.MaxValue = 64 << 10
	}
	discard := jetstream.DiscardNew
	if cfg.DropOldest {
		discard = jetstream.DiscardOld
	}
	// The stream behind a key-value bucket, with what the client's own configuration cannot say: the discard policy, and
	// expiry of single records.
	_, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:                   "KV_" + cfg.Name,
		Subjects:               []string{"$KV." + cfg.Name + ".>"},
		MaxMsgsPerSubject:      1,
		MaxBytes:               cfg.MaxBytes,
		MaxMsgSize:             int32(cfg.MaxValue) + 1024, // header and subject count too
		Discard:                discard,
		Storage:                jetstream.FileStorage,
		Replicas:               max(s.cfg.Replicas, 1),
		AllowRollup:            true,
		DenyDelete:             true,
		AllowDirect:            true,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: markerTTL,
	})
	if err != nil {
		return nil, rterr.Wrap(rterr.Unavailable, "open bucket "+cfg.Name, err)
	}
	kv, err := s.js.KeyValue(ctx, cfg.Name)
	if err != nil {
		return nil, rterr.Wrap(rterr.Unavailable, "open bucket "+cfg.Name, err)
	}
	return &Bucket[T]{
		codec:  codec{bucket: cfg.Name, schema: cfg.Schema, migrations: cfg.Migrations, maxValue: cfg.MaxValue},
		kv:     kv,
		js:     s.js,
		prefix: "$KV." + cfg.Name + ".",
	}, nil
}

// Put writes a record, whatever is there, and returns its revision. With a ttl above zero (at least a second) the record goes
// away after that time, unless it is written again.
func (b *Bucket[T]) Put(ctx context.Context, key Key, value T, ttl time.Duration) (uint64, error) {
	return b.write(ctx, "put", key, value, ttl)
}

// Update writes a record if its revision is still the given one; revision 0 is for a key that was never there. A record that
// changed meanwhile is an error for which IsConflict holds.
func (b *Bucket[T]) Update(ctx context.Context, key Key, value T, revision uint64, ttl time.Duration) (uint64, error) {
	return b.write(ctx, "update", key, value, ttl, jetstream.WithExpectLastSequencePerSubject(revision))
}

func (b *Bucket[T]) write(ctx context.Context, op string, key Key, value T, ttl time.Duration, opts ...jetstream.PublishOpt) (uint64, error) {
	raw, err := b.codec.encode(key, value)
	if err != nil {
		return 0, err
	}
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL(max(ttl, time.Second)))
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	ack, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: b.prefix + string(key), Data: raw}, opts...)
	if err != nil {
		return 0, b.failed(op, key, err)
	}
	return ack.Sequence, nil
}

// Create writes a record if there is none of that key; rterr.AlreadyExists if there is.
func (b *Bucket[T]) Create(ctx context.Context, key Key, value T, ttl time.Duration) (uint64, error) {
	raw, err := b.codec.encode(key, value)
	if err != nil {
		return 0, err
	}
	var opts []jetstream.KVCreateOpt
	if ttl > 0 {
		opts = append(opts, jetstream.KeyTTL(max(ttl, time.Second)))
	}
	ctx, cancel := bound(ctx)
	defer cancel()
	revision, err := b.kv.Create(ctx, string(key), raw, opts...)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, rterr.New(rterr.AlreadyExists, "create "+b.codec.where(key), "it is there already").WithCause(err)
	}
	if err != nil {
		return 0, b.failed("create", key, err)
	}
	return revision, nil
}

// Get reads a record; rterr.NotFound if there is none.
func (b *Bucket[T]) Get(ctx context.Context, key Key) (Entry[T], error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	raw, err := b.kv.Get(ctx, string(key))
	if err != nil {
		return Entry[T]{}, b.failed("get", key, err)
	}
	return b.entry(raw)
}

func (b *Bucket[T]) entry(raw jetstream.KeyValueEntry) (Entry[T], error) {
	e := Entry[T]{Key: Key(raw.Key()), Revision: raw.Revision(), At: raw.Created()}
	err := b.codec.decode(e.Key, raw.Value(), &e.Value)
	return e, err
}

// Delete removes a record. With a revision above zero only that one: IsConflict holds for the error otherwise. A record that is
// not there is a success.
func (b *Bucket[T]) Delete(ctx context.Context, key Key, revision uint64) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	opts := []jetstream.KVDeleteOpt{jetstream.PurgeTTL(markerTTL)}
	if revision > 0 {
		opts = append(opts, jetstream.LastRevision(revision))
	}
	if err := b.kv.Purge(ctx, string(key), opts...); err != nil {
		return b.failed("delete", key, err)
	}
	return nil
}

// modifyTries bounds Modify: that many others changed the record in between.
const modifyTries = 32

// Modify reads a record, lets change work on it, and writes it if nobody else has written meanwhile; else again from the start.
// An error of change ends it and comes back as it is. The ttl is that of the written record.
func (b *Bucket[T]) Modify(ctx context.Context, key Key, change func(*T) (ttl time.Duration, err error)) (Entry[T], error) {
	for range modifyTries {
		e, err := b.Get(ctx, key)
		if err != nil {
			return e, err
		}
		ttl, err := change(&e.Value)
		if err != nil {
			return e, err
		}
		revision, err := b.Update(ctx, key, e.Value, e.Revision, ttl)
		if err == nil {
			e.Revision = revision
			return e, nil
		}
		if !IsConflict(err) {
			return e, err
		}
	}
	return Entry[T]{}, rterr.New(rterr.Unavailable, "modify "+b.codec.where(key), "others changed it %d times meanwhile", modifyTries)
}

// errConflict marks a write that came too late.
var errConflict = errors.New("the record changed meanwhile")

// IsConflict reports whether err is a write that was refused because the record had changed.
func IsConflict(err error) bool { return errors.Is(err, errConflict) }

// failed says what an error of the server means.
func (b *Bucket[T]) failed(op string, key Key, err error) error {
	op = op + " " + b.codec.where(key)
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return rterr.New(rterr.NotFound, op, "there is none").WithCause(err)
	case conflicting(err):
		return rterr.New(rterr.IllegalState, op, "%v", errConflict).WithCause(fmt.Errorf("%w: %w", errConflict, err))
	case errors.As(err, &api) && full(api):
		return rterr.New(rterr.LimitExceeded, op, "the store is full: %s", api.Description).WithField("store.retention").
			WithRemedy("stop runtimes that are not needed, or raise the bounds under store in the config").WithCause(err)
	default:
		return rterr.Wrap(rterr.Unavailable, op, err)
	}
}

func conflicting(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	// A stream of several replicas has a number of its own for the same refusal.
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

func full(api *jetstream.APIError) bool {
	const (
		resources   jetstream.ErrorCode = 10047
		storeFailed jetstream.ErrorCode = 10077
	)
	return api.ErrorCode == resources || api.ErrorCode == storeFailed && strings.Contains(api.Description, "maximum")
}
