// Package store keeps what must survive the daemon: runtimes, principals, session ids, intents, the index of actions, events. It
// is NATS JetStream, embedded in this process without a network listener, or an external server by URL; the code above the
// connection is the same. No other package sees NATS.
//
// Guarantee: what a method has acknowledged is there again after kill -9 of this process. Loss of power may cost up to two
// minutes, unless Config.SyncAlways. Everything is bounded: each bucket and the event log in bytes, values in size, done things in
// time. Records carry a schema number; a newer one than this program knows is refused, never guessed at.
package store

import (
	"context"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The waits of this package.
const (
	// readyLimit bounds the embedded server's start, recovery of its files included.
	readyLimit = 60 * time.Second
	// dialLimit bounds one try to reach an external server.
	dialLimit = 5 * time.Second
	// pendingWrites is how many asynchronous writes may be under way: more than a batch of events has.
	pendingWrites = 8192
	// callLimit bounds a request for which the caller set no deadline.
	callLimit = 10 * time.Second
	// flushLimit bounds Close's wait for writes behind, where the caller set no deadline.
	flushLimit = 10 * time.Second
	// reconnectWait is the pause between tries to reach an external server that went away.
	reconnectWait = time.Second
	// markerTTL is how long a deletion can be seen by watchers.
	markerTTL = time.Minute
)

// Bounds are the limits of what is kept. Zero values take the default.
type Bounds struct {
	// DoneActions is how long the record of a finished action is kept; default 24 h.
	DoneActions time.Duration
	// StoppedRuntimes is how long the record of a stopped runtime is kept; default 7 d.
	StoppedRuntimes time.Duration
	// EventAge, EventCount and EventBytes bound the event log; the oldest go first. Default 7 d, 200,000, 128 MiB.
	EventAge   time.Duration
	EventCount int64
	EventBytes int64
	// RuntimeBytes bounds the runtimes' records; beyond it new ones are refused. Default 256 MiB.
	RuntimeBytes int64
	// ActionBytes bounds the index of actions; the oldest go first. Default 256 MiB.
	ActionBytes int64
}

func (b Bounds) withDefaults() Bounds {
	b.DoneActions = orDefault(b.DoneActions, 24*time.Hour)
	b.StoppedRuntimes = orDefault(b.StoppedRuntimes, 7*24*time.Hour)
	b.EventAge = orDefault(b.EventAge, 7*24*time.Hour)
	b.EventCount = orDefault(b.EventCount, 200_000)
	b.EventBytes = orDefault(b.EventBytes, 128<<20)
	b.RuntimeBytes = orDefault(b.RuntimeBytes, 256<<20)
	b.ActionBytes = orDefault(b.ActionBytes, 256<<20)
	return b
}

func orDefault[T ~int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Config says where the store is.
type Config struct {
	// Dir is the folder of the embedded server, made if missing, of this process alone. Unused with a URL.
	Dir string
	// URL of an external NATS server with JetStream; empty: embedded.
	URL string
	// CredentialsFile is the external server's .creds file; may be empty.
	CredentialsFile string
	// Replicas of each bucket on an external cluster; default 1.
	Replicas int
	// SyncAlways makes every write wait for the disk (embedded only).
	SyncAlways bool
	Bounds     Bounds
	// Logger must not be nil.
	Logger hclog.Logger
}

// Store is the open store. Its methods and those of its parts may be called from any goroutine.
type Store struct {
	// Runtimes by their id.
	Runtimes *Bucket[Runtime]
	// Principals by KeyHash of their key.
	Principals *Bucket[Principal]
	// Intents by their id.
	Intents *Bucket[Intent]
	// Actions is the index of actions, written behind.
	Actions *Actions
	// Events is the log of what happened to runtimes.
	Events *Log

	sids   *Bucket[SID]
	meta   *Bucket[Meta]
	bounds Bounds
	log    hclog.Logger
	lock   *Lock
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
	cfg    Config
}

// Open starts the embedded server, or connects to the external one, and opens every bucket, making those that are missing.
// Another process that holds Dir is an error of rterr.Unavailable that names its pid.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	const op = "open store"
	s := &Store{bounds: cfg.Bounds.withDefaults(), log: cfg.Logger, cfg: cfg}
	if err := s.open(ctx); err != nil {
		s.shutdown()
		return nil, rterr.Wrap(rterr.Unavailable, op, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.connect(); err != nil {
		return err
	}
	js, err := jetstream.New(s.conn, jetstream.WithDefaultTimeout(callLimit), jetstream.WithPublishAsyncMaxPending(pendingWrites))
	if err != nil {
		return err
	}
	s.js = js
	return s.openBuckets(ctx)
}

func (s *Store) connect() error {
	options := []nats.Option{
		nats.Name("openhands-rt"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.Timeout(dialLimit),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.log.Warn("store connection", "error", err) }),
	}
	if s.cfg.URL != "" {
		return s.dial(options)
	}
	if err := s.startServer(); err != nil {
		return err
	}
	conn, err := nats.Connect("", append(options, nats.InProcessServer(s.server))...)
	if err != nil {
		return err
	}
	s.conn = conn
	return nil
}

func (s *Store) dial(options []nats.Option) error {
	if s.cfg.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(s.cfg.CredentialsFile))
	}
	conn, err := nats.Connect(s.cfg.URL, options...)
	if err != nil {
		return rterr.New(rterr.Network, "connect to NATS", "%v", err).WithField("store.url").
			WithRemedy("check store.url and that the server runs with JetStream; leave it empty for the embedded store").WithCause(err)
	}
	s.conn = conn
	return nil
}

func (s *Store) openBuckets(ctx context.Context) (err error) {
	if s.meta, err = OpenBucket[Meta](ctx, s, BucketConfig{Name: "meta", Schema: metaSchema, MaxBytes: 1 << 20}); err != nil {
		return err
	}
	if s.Runtimes, err = OpenBucket[Runtime](ctx, s, BucketConfig{
		Name: "runtimes", Schema: runtimeSchema, MaxBytes: s.bounds.RuntimeBytes, MaxValue: MaxRecord,
	}); err != nil {
		return err
	}
	if s.Principals, err = OpenBucket[Principal](ctx, s, BucketConfig{Name: "principals", Schema: principalSchema, MaxBytes: 16 << 20}); err != nil {
		return err
	}
	if s.sids, err = OpenBucket[SID](ctx, s, BucketConfig{Name: "sids", Schema: sidSchema, MaxBytes: 64 << 20}); err != nil {
		return err
	}
	if s.Intents, err = OpenBucket[Intent](ctx, s, BucketConfig{Name: "intents", Schema: intentSchema, MaxBytes: 64 << 20}); err != nil {
		return err
	}
	actions, err := OpenBucket[Action](ctx, s, BucketConfig{
		Name: "actions", Schema: actionSchema, MaxBytes: s.bounds.ActionBytes, MaxValue: MaxRecord, DropOldest: true,
	})
	if err != nil {
		return err
	}
	s.Actions = newActions(actions, s.bounds.DoneActions, s.cfg.URL == "", s.log)
	s.Events, err = openLog(ctx, s)
	return err
}

// Close writes out what is waiting, and closes. Until ctx ends, or ten seconds have passed, it waits for the writes; what could
// not be written by then is an error that counts it. The store is closed in any case. Not to be called twice.
func (s *Store) Close(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flushLimit)
		defer cancel()
	}
	err := s.Actions.close(ctx)
	s.shutdown()
	return rterr.Wrap(rterr.Unavailable, "close store", err)
}

// shutdown closes whatever is open.
func (s *Store) shutdown() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
	if s.lock != nil {
		if err := s.lock.Release(); err != nil {
			s.log.Warn("release store lock", "error", err)
		}
	}
}

// Ping asks the server for a sign of life: for readiness checks.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	if err := s.conn.FlushWithContext(ctx); err != nil {
		return rterr.Wrap(rterr.Unavailable, "ping store", err)
	}
	return nil
}

// bound gives ctx the usual limit where it has none.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callLimit)
}

// makeDir makes dir with access for this user alone.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return rterr.New(rterr.ConfigInvalid, "make store folder", "%v", err).WithField("data_dir").
			WithRemedy("choose a data_dir that this user may write to").WithCause(err)
	}
	return nil
}
