package emulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// The reasons for which a devbox fails or is shut down.
const (
	executionFailed   = "execution_failed"
	healthCheckFailed = "health_check_failed"
	apiShutdown       = "api_shutdown"
	keepAliveTimeout  = "keep_alive_timeout"
	entrypointExit    = "entrypoint_exit"
	idleShutdown      = "idle"
)

// change changes a devbox's status if it is one of those given, and reports whether it was.
func (s *Server) change(d *devbox, next status, from ...status) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range from {
		if d.status == f {
			d.to(next)
			return true
		}
	}
	return false
}

// boot brings a devbox from provisioning to running: the first time with its disk to be made, later with the one that it has.
func (s *Server) boot(d *devbox, first bool) {
	if err := s.bootSteps(d, first); err != nil && d.life.Err() == nil {
		s.log.Debug("a devbox failed to boot", "devbox", d.id, "error", err)
		d.logs.add(logEntry{Level: "error", Source: "setup_commands", Message: text(err.Error())})
		var reason bootError
		if !errors.As(err, &reason) {
			reason.reason = healthCheckFailed
		}
		s.fail(d, reason.reason)
	}
}

// bootError is a failure to boot with one of the service's reasons.
type bootError struct {
	reason string
	cause  error
}

func (e bootError) Error() string { return fmt.Sprintf("%s: %v", e.reason, e.cause) }

func (s *Server) bootSteps(d *devbox, first bool) error {
	if err := pause(d.life, s.config.Delay); err != nil {
		return err
	}
	s.change(d, provisioning, queued)
	if first {
		if err := pause(d.life, d.faults.slow); err != nil {
			return err
		}
		if d.faults.fails {
			return bootError{healthCheckFailed, errors.New("the devbox did not pass its health check")}
		}
		if err := s.makeDisk(d); err != nil {
			return err
		}
	}
	if err := s.startBox(d); err != nil {
		return err
	}
	if !s.change(d, initializing, provisioning) {
		return context.Canceled
	}
	if err := s.setUp(d, first); err != nil {
		return err
	}
	if err := pause(d.life, s.config.Delay); err != nil {
		return err
	}
	if s.change(d, running, initializing) {
		s.ran(d)
	}
	return nil
}

func (s *Server) makeDisk(d *devbox) error {
	if d.source == "" {
		return nil
	}
	return copyDisk(d.life, d.source, d.disk)
}

// copyDisk copies a disk as it is at the moment, sharing blocks where the file system can.
func copyDisk(ctx context.Context, from, to string) error {
	//nolint:gosec // Both paths are made of ids of our own, and users of devboxes read below them.
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	//nolint:gosec // Both are folders of our own.
	out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", from, to).CombinedOutput()
	// A file that vanishes meanwhile is no reason to have no copy: a disk in use changes.
	if err != nil && ctx.Err() == nil {
		if _, missing := os.Stat(to); missing != nil { //nolint:gosec // See above.
			return fmt.Errorf("copy a disk: %w: %s", err, out)
		}
	}
	// What an overlay works with is of no use to another one.
	_ = os.RemoveAll(filepath.Join(to, "work")) //nolint:gosec // See above.
	return ctx.Err()
}

func (s *Server) startBox(d *devbox) error {
	user, uid := d.user()
	ctx, cancel := context.WithTimeout(d.life, bootWait)
	defer cancel()
	b, err := box.Start(ctx, box.Spec{Disk: d.disk, User: user, UID: uid, Env: d.env})
	if err != nil {
		return err
	}
	s.mu.Lock()
	dead := d.status.terminal() || d.life.Err() != nil
	if !dead {
		d.box = b
	}
	s.mu.Unlock()
	if dead {
		b.Stop()
		return context.Canceled
	}
	return nil
}

// ran starts what goes with a running devbox: its entrypoint, its clock, its faults.
func (s *Server) ran(d *devbox) {
	s.mu.Lock()
	b, entrypoint, evicts := d.box, d.params.Entrypoint, d.faults.evicts
	s.mu.Unlock()
	if entrypoint != nil && *entrypoint != "" {
		s.work.Go(func() { s.runEntrypoint(d, b, *entrypoint) })
	}
	s.work.Go(func() { s.watchClock(d, b) })
	if evicts != nil {
		s.evict(d, evicts.Delay)
	}
}

func (s *Server) runEntrypoint(d *devbox, b *box.Box, command string) {
	exit, ok := s.runLogged(d, b, "entrypoint", command)
	s.mu.Lock()
	ok = ok && d.box == b && d.status == running // Suspending a devbox ends its entrypoint, too.
	s.mu.Unlock()
	if ok {
		s.log.Debug("an entrypoint ended", "devbox", d.id, "exit", exit)
		s.shutDown(d, entrypointExit)
	}
}

// watchClock ends or suspends a devbox when its time is up, and notices when its processes have ended by themselves.
func (s *Server) watchClock(d *devbox, b *box.Box) {
	for {
		s.mu.Lock()
		due, act := s.due(d)
		mine := d.box == b && d.status == running
		changed := d.changed
		s.mu.Unlock()
		if !mine {
			return
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
			// Activity may have moved the moment.
			s.mu.Lock()
			now, _ := s.due(d)
			s.mu.Unlock()
			if !now.After(time.Now()) {
				act()
				return
			}
		case <-changed:
		case <-b.Done():
			timer.Stop()
			s.mu.Lock()
			lost := d.box == b && d.status == running
			s.mu.Unlock()
			if lost {
				s.fail(d, executionFailed)
			}
			return
		case <-d.life.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// due returns when a devbox's time is up, and what is done then. The server's lock is held.
func (s *Server) due(d *devbox) (time.Time, func()) {
	if idle := d.launch.AfterIdle; idle != nil {
		since := d.lastUse
		if d.busy() {
			since = time.Now()
		}
		due := since.Add(time.Duration(idle.IdleTimeSeconds) * time.Second)
		if idle.OnIdle == "suspend" {
			return due, func() { s.suspend(d) }
		}
		return due, func() { s.shutDown(d, idleShutdown) }
	}
	keep := defaultKeepAlive
	if k := d.launch.KeepAliveTimeSeconds; k != nil {
		keep = time.Duration(*k) * time.Second
	}
	return d.keptFrom.Add(keep), func() { s.shutDown(d, keepAliveTimeout) }
}

// defaultKeepAlive is how long a devbox lives that says nothing else.
const defaultKeepAlive = time.Hour

// busy reports whether a command runs. The server's lock is held.
func (d *devbox) busy() bool {
	for _, e := range d.executions.list() {
		if !e.completed() {
			return true
		}
	}
	return false
}

// suspend takes a running devbox down to its disk and returns when that is done.
func (s *Server) suspend(d *devbox) {
	if s.change(d, suspending, running) {
		s.finishSuspend(d)
	}
}

func (s *Server) finishSuspend(d *devbox) {
	s.runSuspendHooks(d)
	if pause(d.life, s.config.Delay) != nil {
		return
	}
	s.endProcesses(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.state.evictions, d.id)
	if d.status == suspending {
		d.to(suspended)
	}
}

// endProcesses ends a devbox's processes and returns when they are gone.
func (s *Server) endProcesses(d *devbox) {
	s.mu.Lock()
	b := d.box
	d.box = nil
	for _, p := range d.ptys {
		p.close()
	}
	clear(d.ptys)
	s.mu.Unlock()
	if b != nil {
		b.Stop()
	}
}

// shutDown ends a devbox for good, if it is alive.
func (s *Server) shutDown(d *devbox, reason string) {
	s.mu.Lock()
	if d.status.terminal() {
		s.mu.Unlock()
		return
	}
	d.reason = reason
	d.to(shutdown)
	s.mu.Unlock()
	s.bury(d)
}

func (s *Server) fail(d *devbox, reason string) {
	s.mu.Lock()
	if d.status.terminal() {
		s.mu.Unlock()
		return
	}
	d.failure = reason
	d.to(statusFailure)
	s.mu.Unlock()
	s.bury(d)
}

// bury removes what a devbox leaves; it is done in the background, for the answer does not wait for it.
func (s *Server) bury(d *devbox) {
	s.mu.Lock()
	delete(s.state.evictions, d.id)
	for key, t := range s.state.tunnels {
		if t.devbox == d {
			delete(s.state.tunnels, key)
		}
	}
	s.mu.Unlock()
	d.end()
	s.work.Go(func() {
		s.endProcesses(d)
		_ = os.RemoveAll(filepath.Dir(d.disk)) //nolint:gosec // A path made of an id of our own.
	})
}
