package plugin

import (
	"context"
	"errors"
	"sync"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// loop is the one goroutine that changes a Supervisor: bring up, tend, bury, rest, again.
type loop struct {
	*Supervisor
	thread   *thread
	sockets  string
	patient  context.Context // ends when Stop loses patience
	random   func() float64
	failures []time.Time
	pending  *command // a Reload that waits for the next start
	leaving  sync.WaitGroup
}

func (l *loop) run(ctx context.Context) {
	l.thread = newThread()
	defer l.thread.stop()
	defer l.leaving.Wait()
	for ctx.Err() == nil {
		inst, err := l.bring(ctx, l.target())
		l.answer(err)
		if err == nil {
			l.publish(inst)
			inst, err = l.tend(ctx, inst)
			l.bury(ctx, inst)
		}
		if ctx.Err() == nil {
			l.rest(ctx, err)
		}
	}
	l.update(func(s *Snapshot) { s.State, s.PID = Stopped, 0 })
}

func (l *loop) target() Spec {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spec
}

// answer tells a pending Reload how the start went.
func (l *loop) answer(err error) {
	if l.pending != nil {
		l.pending.answer <- err
		l.pending = nil
	}
}

// publish makes inst the one that Client hands out.
func (l *loop) publish(inst *instance) {
	l.mu.Lock()
	l.current, l.shown, l.spec = inst, inst, inst.spec
	l.mu.Unlock()
	l.update(func(s *Snapshot) {
		s.State, s.Source = Running, sourceOf(inst.spec)
		s.PID, s.SHA256 = inst.link.identity().pid, inst.link.identity().sha256
		s.Describe, s.Warnings = inst.describe, inst.warnings
	})
	l.logger.Info("plugin is up", "plugin", inst.describe.GetName(), "version", inst.describe.GetVersion(),
		"pid", inst.link.identity().pid, "source", sourceOf(inst.spec))
	for _, w := range inst.warnings {
		l.logger.Warn("plugin warns", "warning", w)
	}
}

// tend watches a running instance and obeys commands. It returns the instance that runs last, and why it must go; nil when the
// supervisor stops.
func (l *loop) tend(ctx context.Context, inst *instance) (*instance, error) {
	ticker := time.NewTicker(inst.spec.Timing.HealthEvery)
	defer ticker.Stop()
	var checks chan error // nil while no check runs
	misses := 0
	for {
		select {
		case <-ctx.Done():
			return inst, nil
		case <-inst.link.lost():
			return inst, lossError(inst.link, "backend "+inst.spec.Backend)
		case <-ticker.C:
			if checks == nil {
				checks = inst.check(ctx)
			}
		case err := <-checks:
			checks = nil
			misses++
			if err == nil {
				misses = 0
			}
			if misses >= inst.spec.Timing.HealthMisses {
				return inst, hungError(inst, misses, err)
			}
		case c := <-l.commands:
			inst = l.reload(ctx, inst, c)
			ticker.Reset(inst.spec.Timing.HealthEvery)
			misses, checks = 0, nil
		}
	}
}

// check asks for the plugin's health. The channel gets one answer, within HealthLimit.
func (i *instance) check(ctx context.Context) chan error {
	answer := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, i.spec.Timing.HealthLimit)
		defer cancel()
		_, err := healthv1.NewHealthClient(i.link.raw()).Check(ctx, &healthv1.HealthCheckRequest{Service: goplugin.GRPCServiceName})
		switch status.Code(err) {
		case codes.Unimplemented, codes.NotFound:
			err = nil // it answers; that is what counts
		}
		answer <- err
	}()
	return answer
}

func hungError(inst *instance, misses int, err error) *rterr.Error {
	e := rterr.New(rterr.PluginUnavailable, "backend "+inst.spec.Backend, "the plugin does not answer: %d health checks failed, the last one: %v",
		misses, err)
	return withFate(e, inst.link.fate()).WithCause(errHung)
}

var errHung = errors.New("the plugin hangs")

// reload answers a command while inst runs, and returns the instance that runs from then on.
func (l *loop) reload(ctx context.Context, inst *instance, c command) *instance {
	if inst.spec.sameProcess(c.spec) {
		next := *inst
		next.spec = c.spec
		err := l.configure(ctx, &next)
		if err == nil {
			inst = &next
			l.publish(inst)
		}
		c.answer <- err
		return inst
	}
	next, err := l.bring(ctx, c.spec)
	if err != nil {
		l.update(func(s *Snapshot) { s.State = Running }) // the old one still does
		c.answer <- err
		return inst
	}
	l.publish(next)
	c.answer <- nil
	// Its calls may take their time; the new one must be tended meanwhile.
	l.leaving.Go(func() { inst.link.end(l.patient, inst.spec.Timing) })
	return next
}

// bury takes inst out of service and leaves nothing of it.
func (l *loop) bury(ctx context.Context, inst *instance) {
	patient := l.patient
	if ctx.Err() != nil {
		l.update(func(s *Snapshot) { s.State = Stopping })
	} else {
		patient = ended() // dead or hung: gentleness is wasted on it
	}
	l.mu.Lock()
	l.current = nil
	l.mu.Unlock()
	inst.link.end(patient, inst.spec.Timing)
}

// rest decides what follows a failure and waits for it: for time to pass, or for a command.
func (l *loop) rest(ctx context.Context, cause error) {
	if cause == nil {
		return
	}
	state, delay := l.judge(cause)
	l.update(func(s *Snapshot) {
		s.State, s.PID, s.LastError = state, 0, cause
		s.Failures++
		s.RetryAt = time.Now().Add(delay)
	})
	l.report(state, delay, cause)
	var retry <-chan time.Time // nil: only a command helps
	if state == Backoff {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		retry = timer.C
	}
	select {
	case <-ctx.Done():
	case <-retry:
	case c := <-l.commands:
		l.pending, l.failures = &c, nil
		l.mu.Lock()
		l.spec = c.spec
		l.mu.Unlock()
	}
}

func (l *loop) judge(cause error) (State, time.Duration) {
	if rterr.Is(cause, rterr.ConfigInvalid, rterr.Integrity, rterr.Unsupported, rterr.InvalidArgument) {
		return Misconfigured, 0
	}
	var v verdict
	v, l.failures = l.target().Restart.next(l.failures, time.Now(), l.random())
	if v.quarantine {
		return Quarantined, 0
	}
	return Backoff, v.delay
}

func (l *loop) report(state State, delay time.Duration, cause error) {
	args := []any{"error", cause.Error()}
	if e := rterr.From(cause); e.Evidence["panic"] != "" {
		args = append(args, "panic", e.Evidence["panic"])
	}
	switch state {
	case Backoff:
		l.logger.Warn("plugin failed, starting it again", append(args, "in", delay.String())...)
	case Quarantined:
		l.logger.Error("plugin failed too often, leaving it down until the next reload", args...)
	default:
		l.logger.Error("plugin cannot run as it is configured, leaving it down until the next reload", args...)
	}
}
