package engine

import (
	"syscall"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// interrupt signals what the turn runs, or withdraws it.
func (r *runner) interrupt(l *live, level agentv1.InterruptLevel) (bool, error) {
	l.interrupted(level)
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.turn; t != nil && t.live == l {
		if r.elsewhere(t) {
			return t.static.interrupt(l, level)
		}
		return r.interruptTurn(t, level)
	}
	for _, t := range r.queue {
		if t.live == l && r.dequeue(t) {
			r.withdrawn(t)
			return true, nil
		}
	}
	return false, nil
}

func (r *runner) interruptTurn(t *turn, level agentv1.InterruptLevel) (bool, error) {
	switch {
	case t.done:
		return false, nil
	case !t.begun || r.session.Withdraw(): // It has not reached the shell.
		return true, nil
	case level == agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT:
		return true, r.strike(t, 0)
	}
	err := r.signalSince(signalOf(level))
	if level == agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL {
		r.after(t, waitShellInterrupted, func() { r.stubborn(t) })
	}
	return err == nil, err
}

// strike sends SIGINT to what is in the foreground. That may miss: a program may just have ended, a child of the shell that is not
// yet its program drops it, and a shell that takes it waits all the same for the program that it was about to start. Then the
// shell would go on as if nothing had come, so there is a look at what has become of it, a bounded number of times. mu is held.
func (r *runner) strike(t *turn, try int) error {
	s := r.session
	at := s.Foreground()
	if err := s.Interrupt(); err != nil {
		return err
	}
	r.watch(t, s, at, try)
	return nil
}

func (r *runner) watch(t *turn, s *session, struck shell.Foreground, try int) {
	if try < interruptTries {
		r.after(t, min(waitInterrupted<<try, waitInterruptedMost), func() { r.look(t, s, struck, try+1) })
	}
}

// look strikes again if the last strike has missed. mu is held.
func (r *runner) look(t *turn, s *session, struck shell.Foreground, try int) {
	if r.session != s {
		return
	}
	now := s.Foreground()
	if !missed(struck, now) {
		r.strikeWaited(t, struck, try)
		r.watch(t, s, struck, try)
		return
	}
	if !struck.Shell && !now.Shell && now.Group != struck.Group {
		// It goes from program to program: however short they are, it takes this one in between.
		s.InterruptShell()
	}
	if err := r.strike(t, try); err != nil {
		r.e.log.Debug("cannot interrupt again", "action", t.live.id, "error", err) // The terminal is gone, and the shell with it.
	}
}

// strikeWaited is for a shell that has taken the signal, has the terminal, and does not end all the same: it waits for programs in
// the background, such as the rest of a pipe whose first part it hit. All that the command began gets the signal then. mu is held.
func (r *runner) strikeWaited(t *turn, struck shell.Foreground, try int) {
	if !struck.Shell || try < interruptPatience {
		return
	}
	if err := r.signalSince(syscall.SIGINT); err != nil {
		r.e.log.Warn("cannot interrupt what an action began", "action", t.live.id, "error", err)
	}
}

// missed reports whether a SIGINT to what was struck has changed nothing, seeing what is in the foreground now. A program that has
// it still deals with the signal in its own way, and a shell that has it still runs the user's trap. A subshell may drop it as often
// as it starts a program, and gets it until it ends: one with a trap that does not end it gets it more than once.
func missed(struck, now shell.Foreground) bool {
	switch {
	case struck.Shell:
		return !now.Shell
	case struck.Group == now.Group:
		return struck.Copy
	}
	return true
}

// signalSince signals what the running command has begun. A walked tree stops processes meanwhile, which a shell would take for
// stopped jobs if it saw it. mu is held.
func (r *runner) signalSince(sig syscall.Signal) error {
	s := r.session
	if s == nil {
		return rterr.New(rterr.IllegalState, "", "the shell has ended")
	}
	if r.e.cfg.Tree.Kind() == sandbox.KindWalk {
		if !s.Stop(waitShellStopped) {
			r.e.log.Warn("the shell does not stand still; it is signalled all the same", "limit", waitShellStopped)
		}
		defer s.Continue()
	}
	_, err := r.e.cfg.Tree.SignalSince(r.mark, sig, s.Pid())
	return err
}

// stubborn is for a shell that is itself in a loop after a KILL: an interrupt ends that and keeps the shell, if it still can. mu is
// held.
func (r *runner) stubborn(t *turn) {
	s := r.session
	if s == nil {
		return
	}
	s.InterruptShell()
	if err := r.signalSince(syscall.SIGKILL); err != nil {
		r.e.log.Warn("cannot kill what an action began", "action", t.live.id, "error", err)
	}
	r.after(t, waitShellKilled, s.Kill)
}
