package engine

import (
	"slices"
	"syscall"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
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
	}
	p := &pursuit{r: r, turn: t, session: r.session}
	if level == agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT {
		return true, p.strike()
	}
	if level == agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL {
		r.after(t, waitShellKilled, p.session.Kill)
	}
	p.signal, t.felled = signalOf(level), signalOf(level)
	return true, p.fell()
}

// pursuit is an interrupt, which stays in force until the command that it is for is over. A signal reaches nobody where a program
// has just ended or the next has not begun, and a child of the shell that is not yet its program drops it: the shell would go on as
// if nothing had come. So there is a look at what has become of it, again and again. The runner's mu is held in all methods.
type pursuit struct {
	r       *runner
	turn    *turn
	session *session
	// signal is what every process that the command began gets; 0: SIGINT goes to the foreground alone.
	signal syscall.Signal
	// gentle: for a key. It does what a key does, and only what the terminal's driver would have lost is sent again.
	gentle bool
	tries  int
	// struck is what SIGINT was sent to.
	struck shell.Foreground
	// back: the shell had the terminal at the last look, after a program that was struck.
	back bool
	// told are the processes that have had the signal and were not copies of the shell then.
	told []int
}

// next sets the time of the next look.
func (p *pursuit) next() {
	wait := waitInterruptedLong
	if p.tries < interruptTries {
		wait = min(waitInterrupted<<p.tries, waitInterruptedMost)
	}
	p.tries++
	p.r.after(p.turn, wait, p.look)
}

func (p *pursuit) look() {
	if p.r.session != p.session {
		return
	}
	again := p.strikeAgain
	if p.signal != 0 {
		again = p.fell
	}
	if err := again(); err != nil {
		p.r.e.log.Warn("cannot interrupt again", "action", p.turn.live.id, "error", err)
	}
}

// strike sends SIGINT to what is in the foreground.
func (p *pursuit) strike() error {
	p.struck, p.back = p.session.Foreground(), false
	p.next()
	return p.session.Interrupt()
}

// strikeAgain is for a command that is not over yet.
func (p *pursuit) strikeAgain() error {
	now := p.session.Foreground()
	switch {
	case p.missed(now) && !p.struck.Shell && !now.Shell && now.Group != p.struck.Group:
		// It goes from program to program. However short they are, the shell takes this one in between; if it waits for a longer one
		// then, that is struck at the next look.
		p.session.InterruptShell()
		p.struck = shell.Foreground{Group: p.session.Pid(), Shell: true}
	case p.missed(now) && now.Shell && !p.back:
		p.back = true // It is about to end, mostly.
	case p.missed(now):
		return p.strike()
	case p.struck.Shell && p.tries >= interruptPatience && p.tries <= interruptTries && !p.gentle:
		// The shell has taken the signal, has the terminal, and does not end all the same: it waits for programs in the background,
		// such as the rest of a pipe whose first part it hit.
		p.next()
		return p.r.signalSince(syscall.SIGINT)
	}
	p.next()
	return nil
}

// missed reports whether a SIGINT to what was struck has changed nothing, seeing what is in the foreground now. A program that has
// it still deals with the signal in its own way, and a shell that has it still runs the user's trap. A subshell may drop it as often
// as it starts a program, so it gets it again, a bounded number of times: one with a trap that does not end it gets it more than once.
func (p *pursuit) missed(now shell.Foreground) bool {
	switch {
	case p.struck.Shell:
		return !now.Shell
	case p.struck.Group == now.Group:
		return p.struck.Copy && p.tries <= interruptTries
	}
	return !p.gentle
}

// fell signals what the command has begun, each process once unless it may have dropped that, and makes the shell give up the rest
// of the command. The shell stands still meanwhile: it begins nothing new, and sees what died only together with its SIGINT.
func (p *pursuit) fell() error {
	r, s := p.r, p.session
	if !s.Stop(waitShellStopped) {
		r.e.log.Warn("the shell does not stand still; it is signalled all the same", "limit", waitShellStopped)
	}
	defer s.Continue()
	alive, err := r.e.cfg.Tree.Pids()
	if err != nil {
		return err
	}
	n, err := r.e.cfg.Tree.SignalSince(r.mark, p.signal, append(p.told, s.Pid())...)
	if n > 0 || p.tries == 0 {
		s.InterruptShell()
	}
	p.told = slices.DeleteFunc(alive, s.Copy)
	p.next()
	return err
}

// signalSince signals what the running command has begun. A walked tree stops processes meanwhile, which a shell would take for
// stopped jobs if it saw it. mu is held.
func (r *runner) signalSince(sig syscall.Signal) error {
	s := r.session
	if r.e.cfg.Tree.Kind() == sandbox.KindWalk {
		if !s.Stop(waitShellStopped) {
			r.e.log.Warn("the shell does not stand still; it is signalled all the same", "limit", waitShellStopped)
		}
		defer s.Continue()
	}
	_, err := r.e.cfg.Tree.SignalSince(r.mark, sig, s.Pid())
	return err
}
