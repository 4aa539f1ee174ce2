package engine

import (
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// turn is one run action.
type turn struct {
	live *live
	run  *action.Run
	// recorded: the journal has it; it goes nowhere before. begun: it has the shell, its channel is open. done: its observation
	// is made.
	recorded, begun, done bool
	// felled is the last signal that TERMINATE or KILL has sent to what it runs.
	felled syscall.Signal
	// static is the shell of its own that it runs in, if it does.
	static *runner
	timers []*time.Timer
}

// runner gives the shell to one run action after the other. It has no goroutine of its own: it moves on when a request, a report
// of the shell, or a timer comes. It is the actions' controller.
type runner struct {
	e *Engine
	// dir is where the next shell starts: where the last one was.
	dir string
	// once: a shell for one action; then ended is called when the action is done.
	once  bool
	ended func()

	mu    sync.Mutex
	queue []*turn
	// turn has the shell, or waits for it to be ready.
	turn *turn
	// session is the shell, nil if it has to be started; ready once it has reported.
	session  *session
	ready    bool
	watchdog *time.Timer
	closed   bool

	// busy: the shell runs a command, for the turn or for one whose timeout has passed.
	busy  bool
	nonce string
	// mark is when the command began.
	mark sandbox.Mark
	// told: an observation of the running command was made.
	told bool
	// unseen is the end of a command that nobody waited for.
	unseen *ending
	// sink takes the terminal's output: of the turn, or before the next one begins, for that.
	sink    *spool.Channel
	sinks   int
	changed time.Time
	// closing are sessions that are being closed.
	closing sync.WaitGroup
}

// ending is how a command ended, as far as the shell is concerned.
type ending struct {
	meta action.RunMetadata
	// code is absent if a signal ended the shell itself.
	code *int32
	// shell: the shell ended with it.
	shell bool
}

func newRunner(e *Engine, dir string) *runner {
	r := &runner{e: e, dir: dir}
	r.newSink()
	return r
}

// newSink makes the channel for what comes next. No action's id begins with a dot.
func (r *runner) newSink() {
	r.sinks++
	name := ".between-" + strconv.Itoa(r.sinks)
	if r.once {
		name = ".once-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	r.sink = r.e.spool.Channel(spool.Key{ID: name, Channel: int32(agentv1.Channel_CHANNEL_PTY)}, &spool.Signal{})
}

// warm starts the shell before it is needed.
func (r *runner) warm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.start(); err != nil {
		r.e.log.Warn("cannot start the shell; the next run action tries again", "error", err)
	}
}

// start starts a shell. mu is held.
func (r *runner) start() error {
	if r.closed {
		return rterr.New(rterr.Unavailable, "start shell", "the agent is stopping").WithRan(rterr.RanNo)
	}
	cfg := r.e.cfg
	dir, err := workDir(cfg.Workspace, r.dir)
	if err != nil && !r.once { // The folder of the last shell may be gone.
		dir, err = workDir(cfg.Workspace, "")
	}
	if err != nil {
		return err
	}
	bash, err := lookPath(cfg.Shell[0], cfg.Env, dir)
	if err != nil {
		return err
	}
	s := &session{runner: r}
	s.Session, err = shell.Start(shell.Config{Tree: cfg.Tree, Bash: append([]string{bash}, cfg.Shell[1:]...), Env: cfg.Env,
		Dir: dir, Rows: cfg.Rows, Cols: cfg.Cols, Logger: r.e.log}, s)
	if err != nil {
		return err
	}
	r.session, r.ready, r.busy, r.told = s, false, false, false
	r.watchdog = time.AfterFunc(waitShellReady, s.tooSlow)
	return nil
}

// job is how a run action is executed.
func (r *runner) job(run *action.Run) job {
	return job{by: r, input: true, reserve: func(l *live) (place, error) {
		t := &turn{live: l, run: run}
		p := place{begin: func() { r.begin(t) }, retract: func() { r.retract(t) }}
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case r.closed:
			return p, rterr.New(rterr.Unavailable, "", "the agent is stopping").WithRan(rterr.RanNo)
		case r.turn == nil && len(r.queue) == 0:
			r.turn, p.runs = t, true
			return p, nil
		case len(r.queue) >= maxQueue:
			return p, rterr.New(rterr.LimitExceeded, "", "%d actions wait for the shell", len(r.queue)).WithRan(rterr.RanNo)
		}
		r.queue = append(r.queue, t)
		return p, nil
	}}
}

// retract takes back a turn that could not be recorded.
func (r *runner) retract(t *turn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turn == t {
		t.done = true
		r.next()
		return
	}
	if r.dequeue(t) && r.turn == nil {
		r.next()
	}
}

// dequeue reports whether t was waiting.
func (r *runner) dequeue(t *turn) bool {
	for i, q := range r.queue {
		if q == t {
			r.queue = append(r.queue[:i:i], r.queue[i+1:]...)
			return true
		}
	}
	return false
}

// next gives the shell to the turn that has waited longest. One that is being recorded holds up those behind it, until it
// begins. mu is held.
func (r *runner) next() {
	r.turn = nil
	if r.ended != nil {
		r.ended()
		return
	}
	for len(r.queue) > 0 && r.queue[0].recorded && r.turn == nil && !r.closed {
		t := r.queue[0]
		r.queue = r.queue[1:]
		running := t.live.change(func(rec *agentv1.ActionRecord) {
			rec.State, rec.StartedAt = agentv1.ActionState_ACTION_STATE_RUNNING, timestamppb.Now()
		})
		if err := r.e.journal.Put(running); err != nil {
			t.done = true
			r.e.fail(t.live, rterr.From(err))
			continue
		}
		r.turn = t
		r.proceed(t)
	}
}

// begin lets a turn go on that has been recorded.
func (r *runner) begin(t *turn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.recorded = true
	if r.turn == nil {
		r.next()
		return
	}
	r.proceed(t)
}

// waits reports whether the turn needs nothing but a shell that is ready. mu is held.
func (r *runner) waits(t *turn) bool {
	return t != nil && t == r.turn && !r.elsewhere(t) && t.recorded && !t.begun && !t.done
}

// elsewhere reports whether the turn has a shell of its own: then all else of it is guarded by that one's mu. mu is held.
func (r *runner) elsewhere(t *turn) bool { return t.static != nil && t.static != r }

// proceed lets the turn go as far as it can. Whatever happens to the shell, a turn begins once. mu is held.
func (r *runner) proceed(t *turn) {
	switch {
	case !r.waits(t):
		return
	case t.live.wasInterrupted():
		r.withdrawn(t)
	case t.run.IsStatic && !r.once:
		r.apart(t)
	case r.session == nil:
		if err := r.start(); err != nil {
			r.failed(t, rterr.From(err))
		}
	case r.ready:
		r.attach(t)
		r.act(t)
	}
}

// attach gives the turn the terminal. mu is held.
func (r *runner) attach(t *turn) {
	t.begun = true
	r.changed = time.Now()
	r.sink.Rename(spool.Key{ID: t.live.id, Channel: int32(agentv1.Channel_CHANNEL_PTY)}, &t.live.wake)
	s := r.session
	t.live.change(func(rec *agentv1.ActionRecord) { rec.Pid, rec.StartedAt = int64(s.Pid()), timestamppb.New(r.changed) })
	t.live.open(agentv1.Channel_CHANNEL_PTY, r.sink)
	s.AbortType(false)
	t.live.input.start(sink{write: s.Type, end: func() { _, _ = s.Type([]byte{s.EndOfFile()}) },
		abort: func() { s.AbortType(true) }})
	if t.live.timeout > 0 {
		r.after(t, t.live.timeout, func() { r.timeout(t, suffixHard(t.live.timeout)) })
	}
	if soft := r.e.cfg.NoChangeTimeout; soft > 0 && !t.run.Blocking {
		r.after(t, soft, func() { r.quiet(t, soft) })
	}
}

// after calls f in d with mu held, unless the turn is done by then.
func (r *runner) after(t *turn, d time.Duration, f func()) {
	t.timers = append(t.timers, time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !t.done {
			f()
		}
	}))
}

// quiet is the no-change timeout's: set again for as long as there was output meanwhile.
func (r *runner) quiet(t *turn, soft time.Duration) {
	if left := soft - time.Since(r.changed); left > 0 {
		r.after(t, left, func() { r.quiet(t, soft) })
		return
	}
	r.timeout(t, suffixSoft(soft))
}

// apart runs a turn in a shell of its own, which ends with it. mu is held.
func (r *runner) apart(t *turn) {
	sub := &runner{e: r.e, dir: t.run.Cwd, once: true, turn: t}
	sub.newSink()
	t.static = sub
	sub.ended = func() {
		sub.closed = true
		r.closing.Add(1)
		go func() {
			defer r.closing.Done()
			sub.close()
			r.mu.Lock()
			defer r.mu.Unlock()
			r.next()
		}()
	}
	sub.begin(t)
}

// cwd is where the shell is, as far as it has told.
func (r *runner) cwd() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dir
}

// resize sets the terminal's size while the action has it.
func (r *runner) resize(l *live, rows, cols uint16) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.turn; t != nil && t.live == l && r.elsewhere(t) {
		return t.static.resize(l, rows, cols)
	}
	if r.turn == nil || r.turn.live != l || !r.turn.begun || r.session == nil {
		return rterr.New(rterr.IllegalState, "", "the action does not have the terminal")
	}
	return r.session.Resize(rows, cols)
}

func (r *runner) cut(*live) {} // close ends the shell, and that the action.

// close ends the shell. The action that runs in it is lost; those that wait are left as they are.
func (r *runner) close() {
	r.mu.Lock()
	r.closed = true
	s := r.session
	r.session = nil
	var static *runner
	switch {
	case r.turn == nil:
	case r.elsewhere(r.turn):
		static = r.turn.static
	default:
		for _, t := range r.turn.timers {
			t.Stop()
		}
	}
	if r.watchdog != nil {
		r.watchdog.Stop()
	}
	r.mu.Unlock()
	if static != nil {
		static.close()
	}
	if s != nil {
		s.Close()
	}
	r.closing.Wait()
	r.lose()
}

// lose makes the turn done whose shell was closed under it.
func (r *runner) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.turn
	if t == nil || !t.recorded || t.done {
		return
	}
	t.end()
	cause := rterr.New(rterr.OutcomeUnknown, "", "the agent was stopped while the action ran").WithRan(rterr.RanUnknown)
	if !t.begun {
		cause = rterr.New(rterr.OutcomeUnknown, "", "the agent was stopped before the action began").WithRan(rterr.RanNo)
	}
	r.e.complete(t.live, result{outcome: agentv1.Outcome_OUTCOME_LOST, err: detailOf(cause)})
}

// session is a shell and its events. Events of a shell that the runner has given up go nowhere.
type session struct {
	*shell.Session
	runner *runner
}

// exitOf is the end of a shell as bash would tell it of a child: 128 and the signal's number. The exit code is absent then.
func exitOf(state *os.ProcessState) (status int, code *int32) {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	narrow := int32(state.ExitCode())
	return state.ExitCode(), &narrow
}
