package engine

import (
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// process runs one process action. It is the action's controller.
type process struct {
	e       *Engine
	payload *action.Process
	live    *live
	cmd     *exec.Cmd
	began   time.Time
	pumps   []*pump
	// master of the terminal, nil without one; stdin the pipe, nil without one.
	master, stdin *os.File

	mu       sync.Mutex
	started  bool
	ended    bool
	timedOut bool
	timers   []*time.Timer
}

func (e *Engine) processJob(payload *action.Process) job {
	p := &process{e: e, payload: payload}
	return job{by: p, input: payload.Stdin || payload.TTY != nil, reserve: func(l *live) (place, error) {
		p.live = l
		return place{runs: true, begin: p.begin, retract: func() {}}, nil
	}}
}

// begin starts the process; what goes wrong is the action's observation.
func (p *process) begin() {
	if err := p.start(); err != nil {
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.closeFiles()
		if rterr.Is(err, rterr.Cancelled) {
			p.e.withdraw(p.live, nil)
			return
		}
		p.e.fail(p.live, rterr.From(err))
		return
	}
	p.e.work.Add(1)
	go p.supervise()
}

func (p *process) start() error {
	dir, err := workDir(p.e.cfg.Workspace, p.payload.Cwd)
	if err != nil {
		return err
	}
	env := environment(p.e.cfg.Env, p.payload.Env)
	path, err := lookPath(p.payload.Argv[0], env, dir)
	if err != nil {
		return err
	}
	p.cmd = &exec.Cmd{Path: path, Args: p.payload.Argv, Env: env, Dir: dir}
	theirs, err := p.connect()
	defer closeAll(theirs)
	if err != nil {
		return rterr.Wrap(rterr.Internal, "start process", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live.wasInterrupted() {
		return rterr.New(rterr.Cancelled, "start process", "it was interrupted before it began")
	}
	p.began = time.Now()
	if err := p.e.cfg.Tree.Start(p.cmd, p.live.id); err != nil {
		if !rterr.Is(err, rterr.Internal) { // A refusal of the tree's own.
			return rterr.Wrap(rterr.Internal, "start process", err)
		}
		return startError("cannot run the program", err)
	}
	p.started = true
	p.live.change(func(r *agentv1.ActionRecord) { r.Pid = int64(p.cmd.Process.Pid) })
	if p.live.timeout > 0 {
		p.after(p.live.timeout, p.expire)
	}
	if p.live.input != nil {
		p.live.input.start(p.sink())
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // Copies of what a child holds; nothing is buffered.
	}
}

// connect makes the channels; it returns the ends that are the child's alone.
func (p *process) connect() (theirs []*os.File, err error) {
	if p.payload.TTY != nil {
		return p.connectTerminal(p.payload.TTY)
	}
	if p.payload.Stdin {
		var in *os.File
		if in, p.stdin, err = os.Pipe(); err != nil {
			return theirs, err
		}
		p.cmd.Stdin = in
		theirs = append(theirs, in)
	}
	for _, name := range []agentv1.Channel{agentv1.Channel_CHANNEL_STDOUT, agentv1.Channel_CHANNEL_STDERR} {
		ours, out, err := os.Pipe()
		if err != nil {
			return theirs, err
		}
		theirs = append(theirs, out)
		if name == agentv1.Channel_CHANNEL_STDOUT {
			p.cmd.Stdout = out
		} else {
			p.cmd.Stderr = out
		}
		p.pumps = append(p.pumps, p.e.newPump(p.live, name, ours))
	}
	return theirs, nil
}

func (p *process) connectTerminal(t *action.TTY) (theirs []*os.File, err error) {
	master, slave, err := shell.OpenPair()
	if err != nil {
		return nil, err
	}
	p.master = master
	p.pumps = append(p.pumps, p.e.newPump(p.live, agentv1.Channel_CHANNEL_PTY, master))
	size := &pty.Winsize{Rows: t.Rows, Cols: t.Cols}
	setZero(&size.Rows, 24)
	setZero(&size.Cols, 80)
	term := t.Term
	setZero(&term, "xterm-256color")
	p.cmd.Env = environment(p.cmd.Env, map[string]string{"TERM": term})
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setctty: true, Ctty: 0}
	return []*os.File{slave}, pty.Setsize(master, size)
}

// sink is where Input goes.
func (p *process) sink() sink {
	if p.master == nil {
		return sink{write: p.stdin.Write, end: func() { _ = p.stdin.Close() }, abort: func() { _ = p.stdin.Close() }}
	}
	master := p.master
	return sink{write: master.Write, end: func() { _, _ = master.Write([]byte{endOfFile}) },
		abort: func() { _ = master.SetWriteDeadline(time.Unix(1, 0)) }}
}

// endOfFile is the character that ends the input of a terminal: Ctrl-D.
const endOfFile = 4

// supervise waits for the end of the process and makes the action done.
func (p *process) supervise() {
	defer p.e.work.Done()
	var pumps sync.WaitGroup
	for _, pump := range p.pumps {
		pumps.Go(pump.run)
	}
	_ = p.cmd.Wait() // The state says more than the error.
	finished := time.Now()
	p.mu.Lock()
	p.ended = true
	for _, t := range p.timers {
		t.Stop()
	}
	timedOut := p.timedOut
	p.mu.Unlock()
	level := p.live.interrupted(0)
	if timedOut || level == agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL {
		p.signal(syscall.SIGKILL) // What has outlived its parent.
	}
	for _, pump := range p.pumps {
		pump.limit(waitPipe)
	}
	pumps.Wait()
	p.finish(timedOut, level, finished)
	for _, pump := range p.pumps {
		pump.release()
	}
}

func (p *process) finish(timedOut bool, level agentv1.InterruptLevel, finished time.Time) {
	state := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	obs := action.ProcessObservation{Observation: action.KindProcess, Pid: p.cmd.Process.Pid, TimedOut: timedOut,
		DurationMS: float64(finished.Sub(p.began).Microseconds()) / 1000}
	r := result{outcome: agentv1.Outcome_OUTCOME_COMPLETED}
	if state.Signaled() {
		obs.Signal = unix.SignalName(state.Signal())
	} else {
		code := state.ExitStatus()
		narrow := int32(code)
		obs.ExitCode, r.exitCode = &code, &narrow
	}
	switch {
	case timedOut:
		r.outcome = agentv1.Outcome_OUTCOME_TIMED_OUT
	case level > 0 && endedBySignal(state):
		r.outcome = agentv1.Outcome_OUTCOME_INTERRUPTED
	}
	r.payload, _ = json.Marshal(obs) // A struct of plain fields marshals.
	p.e.complete(p.live, r)
	if err := p.e.cfg.Tree.Forget(p.live.id); err != nil {
		p.e.log.Warn("cannot give up an action's group", "action", p.live.id, "error", err)
	}
}

// endedBySignal is the rule for "an Interrupt ended it": a signal did, or the program says so as shells do, by 128 and more. A
// program that caught the signal and ended in its own way has completed.
func endedBySignal(state syscall.WaitStatus) bool {
	return state.Signaled() || state.ExitStatus() >= 128
}

// after calls f in d, unless the process ends before. mu is held.
func (p *process) after(d time.Duration, f func()) {
	p.timers = append(p.timers, time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.ended {
			f()
		}
	}))
}

// expire is the hard timeout's.
func (p *process) expire() {
	p.timedOut = true
	p.signal(syscall.SIGTERM)
	p.after(waitTerminate, func() { p.signal(syscall.SIGKILL) })
}

func (p *process) signal(sig syscall.Signal) {
	if _, err := p.e.cfg.Tree.Signal(p.live.id, sig); err != nil {
		p.e.log.Warn("cannot signal an action", "action", p.live.id, "signal", unix.SignalName(sig), "error", err)
	}
}

func (p *process) interrupt(l *live, level agentv1.InterruptLevel) (bool, error) {
	l.interrupted(level)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false, nil
	}
	if !p.started {
		return true, nil // start looks at the level.
	}
	_, err := p.e.cfg.Tree.Signal(l.id, signalOf(level))
	return err == nil, err
}

func signalOf(level agentv1.InterruptLevel) syscall.Signal {
	switch level {
	case agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE:
		return syscall.SIGTERM
	case agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL:
		return syscall.SIGKILL
	}
	return syscall.SIGINT
}

func (p *process) resize(_ *live, rows, cols uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.master == nil || p.ended {
		return rterr.New(rterr.IllegalState, "", "the action has no terminal, or is done")
	}
	return pty.Setsize(p.master, &pty.Winsize{Rows: rows, Cols: cols})
}

func (p *process) cut(*live) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started && !p.ended {
		p.signal(syscall.SIGKILL)
	}
}

// closeFiles closes our ends of a process that was not started.
func (p *process) closeFiles() {
	for _, pump := range p.pumps {
		_ = pump.from.Close() // Nothing was read from it.
	}
	if p.stdin != nil {
		_ = p.stdin.Close() // Nothing was written to it.
	}
}
