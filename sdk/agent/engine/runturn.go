package engine

import (
	"crypto/rand"
	"os"
	"syscall"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// act does what the turn's command says, by OpenHands' rules: a command that runs on after a timeout keeps the shell; until it
// ends, there is input for it, and the empty command, which waits on. mu is held, the shell is ready.
func (r *runner) act(t *turn) {
	command := t.run.Command
	switch {
	case r.busy && t.run.IsInput:
		r.input(t)
	case r.busy && command == "":
		// Wait on.
	case r.busy:
		r.answer(t, suffixNotExecuted(command))
	case r.unseen != nil && (t.run.IsInput || command == ""):
		r.finish(t, *r.unseen)
	case t.run.IsInput:
		r.refuse(t, nothingToWrite)
	case command == "":
		r.refuse(t, nothingToRead)
	default:
		r.execute(t)
	}
}

// execute gives the command to the shell.
func (r *runner) execute(t *turn) {
	r.unseen, r.told = nil, false
	r.nonce = rand.Text()[:12]
	r.mark = r.e.cfg.Tree.Mark()
	r.busy = true
	if err := r.session.Run(r.nonce, t.run.Command); err != nil {
		// The shell is ending; whether it took the command, Exited tells.
		r.e.log.Debug("cannot hand over a command", "action", t.live.id, "error", err)
		r.session.Kill()
	}
}

// input types the turn's text, or its key.
func (r *runner) input(t *turn) {
	if t.key = specialKey(t.run.Command); t.key != 0 {
		t.live.input.inject([]byte{t.key})
		return
	}
	t.live.input.inject(append([]byte(t.run.Command), r.session.Enter()))
}

func (t *turn) half() int {
	if t.run.Hidden {
		return hiddenHalf
	}
	return visibleHalf
}

// finish makes the turn done by the end of a command. mu is held.
func (r *runner) finish(t *turn, end ending) {
	r.unseen = nil
	end = t.fallen(end)
	m := end.meta
	key := byte(0)
	if t.key != 0 {
		key = t.run.Command[2]
	}
	m.Suffix = suffixCompleted(m.ExitCode, key)
	if end.shell {
		m.Suffix += shellEnded
	}
	outcome := agentv1.Outcome_OUTCOME_COMPLETED
	// The rule of endedBySignal, for what a shell says.
	if t.live.wasInterrupted() && m.ExitCode >= 128 {
		outcome = agentv1.Outcome_OUTCOME_INTERRUPTED
	}
	r.done(t, result{outcome: outcome, exitCode: end.code, payload: runPayload(t.run, content(r.sink, t.half()), m)})
}

// fallen is the end of a command whose processes were terminated or killed: by that signal, also where what reached the shell in
// time was only the SIGINT that kept it from the rest of the command.
func (t *turn) fallen(end ending) ending {
	if t.felled == 0 || end.shell || end.meta.ExitCode != 128+int(syscall.SIGINT) {
		return end
	}
	code := 128 + int32(t.felled)
	end.meta.ExitCode, end.code = int(code), &code
	return end
}

// timeout makes the turn done while its command goes on. mu is held.
func (r *runner) timeout(t *turn, suffix string) {
	if t.begun {
		m := r.meanwhile(suffix)
		r.done(t, result{outcome: agentv1.Outcome_OUTCOME_TIMED_OUT, payload: runPayload(t.run, content(r.sink, t.half()), m)})
	}
}

// meanwhile is the metadata of a command that runs on.
func (r *runner) meanwhile(suffix string) action.RunMetadata {
	m := unknown()
	m.Suffix = suffix
	if r.told {
		m.Prefix = prefixPrevious
	}
	r.told = true
	return m
}

// answer makes the turn done with the output so far, but not its command. mu is held.
func (r *runner) answer(t *turn, suffix string) {
	m := r.meanwhile(suffix)
	r.done(t, result{outcome: agentv1.Outcome_OUTCOME_COMPLETED, payload: runPayload(t.run, content(r.sink, t.half()), m)})
}

// refuse makes the turn done with a text of ours.
func (r *runner) refuse(t *turn, text string) {
	run := *t.run
	run.Command = ""
	r.done(t, result{outcome: agentv1.Outcome_OUTCOME_COMPLETED, payload: runPayload(&run, text, unknown())})
}

// withdrawn makes a turn done that was interrupted before it reached the shell.
func (r *runner) withdrawn(t *turn) {
	t.end()
	r.e.withdraw(t.live, runPayload(t.run, "", unknown()))
	if r.turn == t {
		r.next()
	}
}

func (r *runner) failed(t *turn, err *rterr.Error) {
	t.end()
	r.e.fail(t.live, err)
	r.next()
}

// done makes a turn done that had the terminal, and gives the shell to the next.
func (r *runner) done(t *turn, res result) {
	t.end()
	r.e.complete(t.live, res)
	r.newSink()
	r.next()
}

func (t *turn) end() {
	t.done = true
	for _, timer := range t.timers {
		timer.Stop()
	}
}

// Output takes what the terminal gave.
func (s *session) Output(p []byte) {
	r := s.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != s {
		return
	}
	r.changed = time.Now()
	_, _ = r.sink.Write(p) // It never fails.
}

// Idle takes the end of a command, or that the shell is ready.
func (s *session) Idle(report shell.Report) {
	r := s.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != s {
		return
	}
	if report.Cwd != "" {
		r.dir = report.Cwd
	}
	if !r.ready {
		r.ready = true
		r.watchdog.Stop()
		r.proceed(r.turn)
		return
	}
	code := int32(report.Status)
	r.over(ending{meta: metadataOf(report), code: &code})
}

// over ends the running command.
func (r *runner) over(end ending) {
	r.busy = false
	if t := r.turn; t != nil && !r.elsewhere(t) && t.begun && !t.done {
		r.finish(t, end)
		return
	}
	r.unseen = &end
}

// Exited takes the end of the shell: that of the command too.
func (s *session) Exited(state *os.ProcessState) {
	r := s.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != s {
		return
	}
	r.session = nil
	r.watchdog.Stop()
	r.closing.Add(1)
	go func() {
		defer r.closing.Done()
		s.Close()
	}()
	status, code := exitOf(state)
	wasReady, wasBusy := r.ready, r.busy
	r.ready = false
	if !wasReady {
		r.neverReady(status)
		return
	}
	if !r.closed && !r.once {
		if err := r.start(); err != nil {
			r.e.log.Warn("cannot start a new shell; the next run action tries again", "error", err)
		}
	}
	if wasBusy {
		m := unknown()
		m.ExitCode, m.WorkingDir = status, r.dir
		r.over(ending{meta: m, code: code, shell: true})
	}
}

// neverReady is for a shell that ended before it was ready. It is not started again by itself.
func (r *runner) neverReady(status int) {
	err := rterr.New(rterr.Unavailable, "start shell", "it ended with %d before it was ready", status).
		WithRemedy("look at ~/.bashrc in the sandbox: it may end or replace the shell")
	if !r.waits(r.turn) {
		r.e.log.Warn("the shell could not be started; the next run action tries again", "error", err)
		return
	}
	r.failed(r.turn, err)
}

// tooSlow is the watchdog's.
func (s *session) tooSlow() {
	r := s.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session == s && !r.ready {
		r.e.log.Warn("the shell was not ready in time", "limit", waitShellReady)
		s.Kill()
	}
}
