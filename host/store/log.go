package store

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	logStream = "events"
	logPrefix = "events."
	// MaxEvent is the largest event, in bytes.
	MaxEvent = 128 << 10
)

// Log is the durable, bounded, append-only row of events of a host or cluster. The oldest go when a bound is reached.
type Log struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Logged is one event of the log.
type Logged struct {
	// Sequence grows by one with each event, over restarts too.
	Sequence uint64
	At       time.Time
	Data     []byte
}

func openLog(ctx context.Context, s *Store) (*Log, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	stream, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        logStream,
		Subjects:    []string{logPrefix + ">"},
		MaxAge:      s.bounds.EventAge,
		MaxMsgs:     s.bounds.EventCount,
		MaxBytes:    s.bounds.EventBytes,
		MaxMsgSize:  MaxEvent + 1024, // the subject counts too
		Discard:     jetstream.DiscardOld,
		Storage:     jetstream.FileStorage,
		Replicas:    max(s.cfg.Replicas, 1),
		AllowDirect: true,
		DenyDelete:  true,
	})
	if err != nil {
		return nil, rterr.Wrap(rterr.Unavailable, "open event log", err)
	}
	return &Log{js: s.js, stream: stream}, nil
}

// Append writes an event under a key (KeyOf(runtime id)) and returns its sequence.
func (l *Log) Append(ctx context.Context, key Key, data []byte) (uint64, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	return l.Begin(key, data)(ctx)
}

// Begin sends an event to be written, after those that were begun before, and returns what waits until it is written, or ctx
// ends, and returns its sequence. Many writes that are begun before the first is waited for cost little more than one.
func (l *Log) Begin(key Key, data []byte) (written func(context.Context) (uint64, error)) {
	const op = "append event"
	if len(data) > MaxEvent {
		e := rterr.New(rterr.LimitExceeded, op, "it has %d bytes, at most %d are kept", len(data), MaxEvent)
		e.Retryable = false
		return func(context.Context) (uint64, error) { return 0, e }
	}
	future, err := l.js.PublishMsgAsync(&nats.Msg{Subject: logPrefix + string(key), Data: data})
	return func(ctx context.Context) (uint64, error) {
		if err != nil {
			return 0, rterr.Wrap(rterr.Unavailable, op, err)
		}
		select {
		case ack := <-future.Ok():
			return ack.Sequence, nil
		case err := <-future.Err():
			return 0, rterr.Wrap(rterr.Unavailable, op, err)
		case <-ctx.Done():
			return 0, rterr.Wrap(rterr.Unavailable, op, ctx.Err())
		}
	}
}

// Read returns up to limit events with a sequence greater than after, oldest first: those of the key whose tokens are given, or
// all. An after that was dropped already begins with the oldest that is kept.
func (l *Log) Read(ctx context.Context, after uint64, limit int, tokens ...string) ([]Logged, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	var out []Logged
	for len(out) < limit {
		raw, err := l.stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(logSubject(tokens)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return out, nil
		}
		if err != nil {
			return out, rterr.Wrap(rterr.Unavailable, "read events", err)
		}
		after = raw.Sequence
		out = append(out, Logged{Sequence: raw.Sequence, At: raw.Time, Data: raw.Data})
	}
	return out, nil
}

// Tail goes through the events after a sequence as Read does, and then through each new one, until ctx ends, which is the last
// error. A consumer that is slow is waited for, and loses only what the log's bounds drop.
func (l *Log) Tail(ctx context.Context, after uint64, tokens ...string) iter.Seq2[Logged, error] {
	return func(yield func(Logged, error) bool) {
		failed := func(err error) { yield(Logged{}, rterr.Wrap(rterr.Unavailable, "tail events", err)) }
		consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{logSubject(tokens)},
			DeliverPolicy:  jetstream.DeliverByStartSequencePolicy,
			OptStartSeq:    after + 1,
		})
		if err != nil {
			failed(err)
			return
		}
		messages, err := consumer.Messages()
		if err != nil {
			failed(err)
			return
		}
		defer messages.Stop()
		for {
			msg, err := messages.Next(jetstream.NextContext(ctx))
			if err != nil {
				failed(err)
				return
			}
			meta, err := msg.Metadata()
			if err != nil {
				failed(err)
				return
			}
			if !yield(Logged{Sequence: meta.Sequence.Stream, At: meta.Timestamp, Data: msg.Data()}, nil) {
				return
			}
		}
	}
}

// Last returns the sequence of the newest event, 0 if there never was one.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, rterr.Wrap(rterr.Unavailable, "read events", err)
	}
	return info.State.LastSeq, nil
}

func logSubject(tokens []string) string {
	if len(tokens) == 0 {
		return logPrefix + ">"
	}
	return logPrefix + patternOf(tokens)
}
