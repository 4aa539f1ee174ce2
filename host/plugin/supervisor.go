package plugin

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Options are what a Supervisor takes from the host.
type Options struct {
	// Logger is named for the component ("plugin"); what a plugin writes appears under it by the backend's name ("plugin.local"),
	// and that name's level is what the plugin is asked to log at. Nil means none.
	Logger hclog.Logger
	// RuntimeDir holds the plugins' sockets, a folder for each backend: made with mode 0700, replaced by a shorter one under /tmp
	// where its path is too long. What an earlier host left in the backend's folder is removed: one host at a time uses it.
	RuntimeDir string
	// HostEnv is the environment that plugins may inherit from; nil means the process's.
	HostEnv []string
	// Credentials resolves those that spec's config refers to, anew before each Configure; nil means none. They are masked in
	// what the plugin writes.
	Credentials func(ctx context.Context, spec Spec) (map[string]string, error)
	// OnUp runs after each Configure of a new process, before Client hands it out: here the host adopts what the backend has. It
	// must use the client that it is given. An error ends that process like a crash. Nil means nothing to do.
	OnUp func(ctx context.Context, client backendv1.BackendServiceClient, describe *backendv1.DescribeResponse) error
	// OnState is told each change, in order, from one goroutine; it must not block nor call the Supervisor. Nil means nobody.
	OnState func(Snapshot)
}

// Supervisor keeps one backend alive. Safe for concurrent use.
type Supervisor struct {
	opts     Options
	logger   hclog.Logger
	commands chan command
	stopped  chan struct{} // closed when the loop has ended

	mu      sync.Mutex
	spec    Spec
	snap    Snapshot
	current *instance     // what Client hands out
	shown   *instance     // whose output Snapshot shows
	changed chan struct{} // closed and replaced with each change
	stop    context.CancelFunc
	abort   context.CancelFunc
}

// command is a Reload on its way to the loop.
type command struct {
	spec   Spec
	answer chan error // buffered
}

// New returns a Supervisor that does nothing yet.
func New(spec Spec, opts Options) *Supervisor {
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	if opts.HostEnv == nil {
		opts.HostEnv = os.Environ()
	}
	spec = spec.withDefaults()
	return &Supervisor{
		opts: opts, logger: opts.Logger.With("backend", spec.Backend), commands: make(chan command), stopped: make(chan struct{}),
		spec: spec, changed: make(chan struct{}),
		snap: Snapshot{Backend: spec.Backend, Source: sourceOf(spec), State: Stopped, Since: time.Now()},
	}
}

func sourceOf(spec Spec) string {
	if spec.Address != "" {
		return "address " + spec.Address
	}
	if len(spec.Command) > 0 {
		return "command " + spec.Command[0]
	}
	return ""
}

// Start checks the spec and begins to supervise; it does not wait for the plugin (Client does). Its context gives values only.
// Call it once. The error is ConfigInvalid.
func (s *Supervisor) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		return rterr.New(rterr.IllegalState, "start backend "+s.spec.Backend, "it was started before")
	}
	if err := s.spec.validate(); err != nil {
		return err
	}
	sockets, remove, err := socketBase(s.opts.RuntimeDir, s.spec.Backend)
	if err != nil {
		return err
	}
	// The loop outlives this call; Stop ends it.
	loopCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	patient, abort := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.abort = stop, abort
	s.snap.State = Starting // before anyone can ask for a client
	l := &loop{Supervisor: s, sockets: sockets, patient: patient, random: rand.Float64}
	go func() {
		defer close(s.stopped)
		defer remove()
		l.run(loopCtx)
	}()
	return nil
}

// Stop drains and ends the plugin and blocks until nothing is left of it. When ctx ends it stops being gentle. Safe to call
// twice, and without Start.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.mu.Lock()
	stop, abort := s.stop, s.abort
	s.mu.Unlock()
	if stop == nil {
		return nil
	}
	defer abort()
	stop()
	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
	}
	abort()
	<-s.stopped
	return rterr.Wrap(rterr.Timeout, "stop backend "+s.snap.Backend, context.Cause(ctx))
}

// Client returns a client of the running plugin. While the plugin is starting, or will be, it waits: until ctx ends, at most
// clientLimit. Otherwise the error is PluginUnavailable and says why, with RanNo. The client's errors are *rterr.Error; it serves
// this one process, so ask again after a PluginUnavailable.
func (s *Supervisor) Client(ctx context.Context) (backendv1.BackendServiceClient, error) {
	limit := time.NewTimer(clientLimit)
	defer limit.Stop()
	for {
		s.mu.Lock()
		current, state, changed := s.current, s.snap.State, s.changed
		s.mu.Unlock()
		if current != nil && !isClosed(current.link.lost()) {
			return current.client, nil
		}
		if current == nil && !state.passing() {
			return nil, s.unavailable()
		}
		select {
		case <-changed:
		case <-limit.C:
			return nil, s.unavailable()
		case <-ctx.Done():
			return nil, rterr.From(rterr.Wrap(rterr.Cancelled, "wait for backend "+s.snap.Backend, context.Cause(ctx))).WithRan(rterr.RanNo)
		}
	}
}

// unavailable says why there is no client.
func (s *Supervisor) unavailable() error {
	snap := s.Snapshot()
	e := rterr.New(rterr.PluginUnavailable, "backend "+snap.Backend, "its plugin is %s", snap.State).WithRan(rterr.RanNo)
	e.Retryable = snap.State.passing()
	if snap.LastError != nil {
		last := rterr.From(snap.LastError)
		e.Detail += "; last error: " + last.Error()
		for k, v := range last.Evidence {
			e = e.With(k, v)
		}
		if !e.Retryable && last.Remedy != "" {
			e = e.WithRemedy(last.Remedy)
		}
		e = e.WithCause(snap.LastError)
	}
	e = e.With("state", snap.State.String()).With("source", snap.Source)
	if wait := time.Until(snap.RetryAt); snap.State == Backoff && wait > 0 {
		e = e.WithRetryAfter(wait)
	}
	return e
}

// Snapshot returns what is known now. It never blocks on the plugin.
func (s *Supervisor) Snapshot() Snapshot {
	s.mu.Lock()
	snap, shown := s.snap, s.shown
	s.mu.Unlock()
	if shown != nil {
		snap.Output = shown.link.fate().output
	}
	return snap
}

// Reload puts a new spec in the place of the old one and blocks until it is in force. If only what Configure says has changed,
// the running plugin is configured anew; else a second process is brought up beside it, and takes over once it is adopted.
// Running calls of the old one have until the drain limit. On error the old one goes on as it was, unless there was none. A
// backend in quarantine or misconfigured is started.
func (s *Supervisor) Reload(ctx context.Context, spec Spec) error {
	spec = spec.withDefaults()
	if err := spec.validate(); err != nil {
		return err
	}
	if spec.Backend != s.snap.Backend {
		return rterr.New(rterr.InvalidArgument, "reload backend "+s.snap.Backend, "the spec is that of %s", spec.Backend)
	}
	return s.command(ctx, spec)
}

// Reconfigure resolves the credentials again and repeats Configure; a backend that is down is started. Errors are Configure's.
func (s *Supervisor) Reconfigure(ctx context.Context) error {
	s.mu.Lock()
	spec := s.spec
	s.mu.Unlock()
	return s.command(ctx, spec)
}

func (s *Supervisor) command(ctx context.Context, spec Spec) error {
	op := "reload backend " + spec.Backend
	c := command{spec: spec, answer: make(chan error, 1)}
	s.mu.Lock()
	started := s.stop != nil
	s.mu.Unlock()
	if !started {
		return rterr.New(rterr.IllegalState, op, "it is not started")
	}
	select {
	case s.commands <- c:
	case <-s.stopped:
		return rterr.New(rterr.Unavailable, op, "it is stopped")
	case <-ctx.Done():
		return rterr.Wrap(rterr.Cancelled, op, context.Cause(ctx))
	}
	select {
	case err := <-c.answer:
		return err
	case <-s.stopped:
		return rterr.New(rterr.Unavailable, op, "it is stopped")
	case <-ctx.Done():
		return rterr.Wrap(rterr.Cancelled, op, context.Cause(ctx))
	}
}

// update changes the snapshot and wakes everyone who waits.
func (s *Supervisor) update(change func(*Snapshot)) {
	s.mu.Lock()
	before := s.snap.State
	change(&s.snap)
	if s.snap.State != before {
		s.snap.Since = time.Now()
	}
	if s.snap.State != Backoff {
		s.snap.RetryAt = time.Time{}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if s.opts.OnState != nil {
		s.opts.OnState(s.Snapshot())
	}
}
