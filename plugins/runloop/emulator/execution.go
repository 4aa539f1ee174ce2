package emulator

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// execution is one command of a devbox.
type execution struct {
	id, devboxID, command string
	shell                 *string
	stdin                 bool
	// over is closed when it is completed; the next command of the same shell waits for it.
	over chan struct{}

	mu      sync.Mutex
	status  string
	process *box.Process
	exit    int
	killed  bool
	changed chan struct{}
}

// The states of an execution.
const (
	execQueued    = "queued"
	execRunning   = "running"
	execCompleted = "completed"
)

// killedExit is the exit status of a command that was killed before it was started.
const killedExit = 128 + int(syscall.SIGKILL)

// executionView is an execution as it is answered; what it does not have yet is null.
type executionView struct {
	DevboxID        string  `json:"devbox_id"`
	ExecutionID     string  `json:"execution_id"`
	Status          string  `json:"status"`
	ExitStatus      *int    `json:"exit_status"`
	Stdout          *string `json:"stdout"`
	Stderr          *string `json:"stderr"`
	StdoutTruncated *bool   `json:"stdout_truncated"`
	StderrTruncated *bool   `json:"stderr_truncated"`
	ShellName       *string `json:"shell_name"`
}

// view shows the last lines of the output, once the command is completed.
func (e *execution) view(lines int) executionView {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := executionView{DevboxID: e.devboxID, ExecutionID: e.id, Status: e.status, ShellName: e.shell}
	if e.status != execCompleted {
		return v
	}
	exit := e.exit
	v.ExitStatus = &exit
	var stdout, stderr string
	var stdoutCut, stderrCut bool
	if e.process != nil {
		stdout, stdoutCut = e.process.Stdout.Last(lines)
		stderr, stderrCut = e.process.Stderr.Last(lines)
	}
	v.Stdout, v.Stderr, v.StdoutTruncated, v.StderrTruncated = &stdout, &stderr, &stdoutCut, &stderrCut
	return v
}

func (e *execution) completed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status == execCompleted
}

// set changes the status.
func (e *execution) set(status string) {
	e.status = status
	close(e.changed)
	e.changed = make(chan struct{})
	if status == execCompleted {
		close(e.over)
	}
}

// await blocks until the status is one of those wanted, or ctx is done; it reports whether it is.
func (e *execution) await(ctx context.Context, wanted func(status string) bool) bool {
	for {
		e.mu.Lock()
		ok, changed := wanted(e.status), e.changed
		e.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// started blocks until the command has a process or is completed without one.
func (e *execution) started(ctx context.Context) (*box.Process, error) {
	if !e.await(ctx, func(status string) bool { return status != execQueued }) {
		return nil, ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process, nil
}

// kill kills the command's own process or its whole group. One that is queued is not started at all.
func (e *execution) kill(group bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status == execCompleted {
		return
	}
	e.killed = true
	if e.process != nil {
		e.process.Signal(syscall.SIGKILL, group)
	}
}

// startExecution starts a command, or queues it behind the one that its shell runs. A known id is the execution that it was given to.
func (s *Server) startExecution(d *devbox, b *box.Box, e *execution) *execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := d.executions.byID[e.id]; ok {
		return known
	}
	e.devboxID, e.status = d.id, execQueued
	e.over, e.changed = make(chan struct{}), make(chan struct{})
	d.executions.add(e.id, e)
	before := make(chan struct{})
	close(before)
	if e.shell != nil && *e.shell != "" {
		if last := d.shells[*e.shell]; last != nil {
			before = last
		}
		d.shells[*e.shell] = e.over
	}
	select {
	case <-before:
		s.launch(d, b, e)
	default:
		s.work.Go(func() {
			<-before
			s.launch(d, b, e)
		})
	}
	return e
}

// launch starts the process of an execution.
func (s *Server) launch(d *devbox, b *box.Box, e *execution) {
	like := logEntry{Level: "info", Source: "exec", CmdID: &e.id, ShellName: e.shell}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.killed {
		e.exit = killedExit
		e.set(execCompleted)
		return
	}
	shell := ""
	if e.shell != nil {
		shell = *e.shell
	}
	process, err := b.Start(box.StartOptions{Stdin: e.stdin}, b.Shell(shell, e.command)...)
	if err != nil {
		e.exit = 255
		d.logs.line(like, err.Error())
		e.set(execCompleted)
		return
	}
	start := like
	start.Cmd = &e.command
	d.logs.add(start)
	e.process = process
	e.set(execRunning)
	s.work.Go(func() { s.finish(d, e, process, like) })
}

// finish completes an execution when its process has ended and its output is in the log.
func (s *Server) finish(d *devbox, e *execution, process *box.Process, like logEntry) {
	var logged sync.WaitGroup
	always := context.Background()
	logged.Go(func() { d.logs.follow(always, process.Stdout, like) })
	logged.Go(func() { d.logs.follow(always, process.Stderr, like) })
	<-process.Done()
	logged.Wait()
	exit := process.Exit()
	end := like
	end.Cmd, end.ExitCode = &e.command, &exit
	d.logs.add(end)
	s.mu.Lock()
	d.lastUse = time.Now()
	s.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exit = exit
	e.set(execCompleted)
}

// runLogged runs a command that no client asked for, and puts its output into the log. ok is false if the devbox ended first.
func (s *Server) runLogged(d *devbox, b *box.Box, source, command string) (exit int, ok bool) {
	like := logEntry{Level: "info", Source: source}
	process, err := b.Start(box.StartOptions{}, b.Shell("", command)...)
	if err != nil {
		d.logs.line(like, err.Error())
		return 255, d.life.Err() == nil
	}
	start := like
	start.Cmd = &command
	d.logs.add(start)
	var logged sync.WaitGroup
	logged.Go(func() { d.logs.follow(context.Background(), process.Stdout, like) })
	logged.Go(func() { d.logs.follow(context.Background(), process.Stderr, like) })
	logged.Wait()
	<-process.Done()
	exit = process.Exit()
	end := like
	end.Cmd, end.ExitCode = &command, &exit
	d.logs.add(end)
	select {
	case <-b.Done():
		return exit, false
	default:
		return exit, true
	}
}
