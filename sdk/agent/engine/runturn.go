package engine

import (
	"crypto/rand"
	"os"
	"syscall"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/split"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// act does what the turn's command says, by OpenHands' rules: a command that runs on after a timeout keeps the shell; until it
// ends, there is input for it, and the empty command, which waits on. mu is held, the shell is ready.
func (r *runner) act(t *turn) {
	command := t.run.Command
	idle := !r.busy && r.unseen == nil
	switch {
	case idle && command == "":
		r.refuse(t, nothingToRead)
	case idle && t.run.IsInput:
		r.refuse(t, nothingToWrite)
	case r.several(t):
	case r.busy && t.run.IsInput:
		r.input(t)
	case r.busy && command == "":
		// Wait on.
	case r.busy:
		r.answer(t, suffixNotExecuted(command))
	case t.run.IsInput || command == "":
		r.finish(t, *r.unseen)
	case isKey(command):
		r.press(t)
	default:
		r.execute(t, command, split.Complete(command))
	}
}

// several refuses more than one command at once, in input too, before anything runs. An agent that has hidden its action can take no
// other answer than a run observation.
func (r *runner) several(t *turn) bool {
	commands := split.Commands(t.run.Command)
	if len(commands) < 2 {
		return false
	}
	text := several(commands)
	payload := action.ErrorObservation(text)
	if t.run.Hidden {
		payload = runPayload(t.run, text, unknown())
	}
	r.done(t, result{outcome: agentv1.Outcome_OUTCOME_COMPLETED, payload: payload})
	return true
}

// execute gives the command to the shell. complete says that it has an end of its own.
func (r *runner) execute(t *turn, command string, complete bool) {
	r.unseen, r.told = nil, false
	r.nonce = rand.Text()[:12]
	r.mark = r.e.cfg.Tree.Mark()
	r.busy = true
	if err := r.session.Run(r.nonce, command, complete); err != nil {
		// The shell is ending; whether it took the command, Exited tells.
		r.e.log.Debug("cannot hand over a command", "action", t.live.id, "error", err)
		r.session.Kill()
	}
}

// press is for a key that is sent to an idle shell: Ctrl-C makes a new prompt, the others nothing that an agent would want.
func (r *runner) press(t *turn) {
	command := shell.KeepStatus
	if c := keyBytes(t.run.Command); c[0] == 3 {
		command = shell.StatusInterrupted
	}
	r.execute(t, command, false)
}

// input types the turn's text, or its key. A key that the terminal would make a signal of is made one here, so that it is known who
// gets it, and that somebody does.
func (r *runner) input(t *turn) {
	if !isKey(t.run.Command) {
		t.live.input.inject(append([]byte(t.run.Command), r.session.Enter()))
		return
	}
	key := keyBytes(t.run.Command)
	p := &pursuit{r: r, turn: t, session: r.session, gentle: true, struck: r.session.Foreground()}
	switch sig, err := r.session.Press(key); {
	case err != nil:
		r.e.log.Debug("cannot send a key", "action", t.live.id, "error", err) // The terminal is gone, and the shell with it.
	case sig == 0:
		t.live.input.inject(key)
	case sig == syscall.SIGINT:
		p.next()
	}
}

// typed is what the terminal shows of a turn's input.
func typed(run *action.Run) string {
	if run.IsInput {
		return run.Command
	}
	return ""
}

func half(hidden bool) int {
	if hidden {
		return hiddenHalf
	}
	return visibleHalf
}

// finish makes the turn done by the end of a command. mu is held.
func (r *runner) finish(t *turn, end ending) {
	r.unseen = nil
	end = t.fallen(end)
	m := end.meta
	text, left := content(r.sink, half(t.run.Hidden), typed(t.run))
	if left > 0 {
		m.Prefix = prefixTruncated(left)
	}
	m.Suffix = suffixCompleted(m.ExitCode, t.run.Command)
	if end.shell {
		m.Suffix += shellEnded
	}
	outcome := agentv1.Outcome_OUTCOME_COMPLETED
	// The rule of endedBySignal, for what a shell says.
	if t.live.wasInterrupted() && m.ExitCode >= 128 {
		outcome = agentv1.Outcome_OUTCOME_INTERRUPTED
	}
	r.done(t, result{outcome: outcome, exitCode: end.code, payload: runPayload(t.run, text, m)})
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
		run := *t.run
		run.Hidden = false
		r.done(t, result{outcome: agentv1.Outcome_OUTCOME_TIMED_OUT, payload: r.unfinished(&run, suffix)})
	}
}

// unfinished is the observation of a command that runs on.
func (r *runner) unfinished(run *action.Run, suffix string) []byte {
	text, _ := content(r.sink, half(run.Hidden), typed(run))
	return runPayload(run, text, r.meanwhile(suffix))
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
	r.done(t, result{outcome: agentv1.Outcome_OUTCOME_COMPLETED, payload: r.unfinished(t.run, suffix)})
}

// refuse makes the turn done with a text of ours.
func (r *runner) refuse(t *turn, text string) {
	run := *t.run
	run.Command, run.Hidden = "", false
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
