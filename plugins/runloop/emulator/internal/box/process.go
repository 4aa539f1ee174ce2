package box

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// readSize is how much of a pipe is read at once.
const readSize = 64 << 10

// Process is a command that was started in a devbox. Its methods may be called from any goroutine.
type Process struct {
	// Stdout and Stderr are what it has written so far.
	Stdout, Stderr *Output

	cmd   *exec.Cmd
	stdin *os.File
	done  chan struct{}

	mu   sync.Mutex
	exit int
}

// StartOptions say how a command is run beside its arguments.
type StartOptions struct {
	// Env comes after the devbox's own, "NAME=VALUE".
	Env []string
	// Stdin keeps the command's standard input open for Input; else it is empty.
	Stdin bool
}

// Start starts a program. It has ended when its own process has, whatever it left in the background: that lives on, and what it
// writes from then on is read and dropped.
func (b *Box) Start(options StartOptions, argv ...string) (*Process, error) {
	p := &Process{Stdout: newOutput(), Stderr: newOutput(), cmd: b.Command(options.Env, argv...), done: make(chan struct{})}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "start a command", err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		closeAll(outR, outW)
		return nil, rterr.Wrap(rterr.Internal, "start a command", err)
	}
	p.cmd.Stdout, p.cmd.Stderr = outW, errW
	inR, err := p.openStdin(options.Stdin)
	if err == nil {
		err = p.cmd.Start()
	}
	closeAll(outW, errW, inR)
	if err != nil {
		closeAll(outR, errR, p.stdin)
		return nil, rterr.Wrap(rterr.Internal, "start a command", err)
	}
	go p.wait(outR, errR)
	return p, nil
}

func (p *Process) openStdin(attach bool) (*os.File, error) {
	if !attach {
		return nil, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdin, p.stdin = r, w
	return r, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// wait ends when the command has ended and what it had written is read; the readers end when nobody can write any more.
func (p *Process) wait(stdout, stderr *os.File) {
	ended := make(chan struct{})
	var read sync.WaitGroup
	read.Add(2)
	go drain(stdout, p.Stdout, ended, read.Done)
	go drain(stderr, p.Stderr, ended, read.Done)
	err := p.cmd.Wait()
	// A deadline wakes a reader that waits; what is in the pipe by now it still reads.
	close(ended)
	_ = stdout.SetReadDeadline(time.Unix(1, 0))
	_ = stderr.SetReadDeadline(time.Unix(1, 0))
	read.Wait()
	p.mu.Lock()
	p.exit = exitStatus(p.cmd, err)
	closeAll(p.stdin)
	p.stdin = nil
	p.mu.Unlock()
	close(p.done)
}

// drain reads a pipe: into out until the command has ended and the pipe is empty, then until nobody can write to it any more.
func drain(pipe *os.File, out *Output, ended <-chan struct{}, emptied func()) {
	defer closeAll(pipe)
	buffer := make([]byte, readSize)
	var err error
	for {
		var n int
		n, err = pipe.Read(buffer)
		out.write(buffer[:n])
		if err != nil {
			break
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		<-ended
		readRest(pipe, out, buffer)
	}
	out.finish()
	emptied()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = pipe.SetReadDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, pipe)
	}
}

// readRest reads what is in a pipe and does not wait for more.
func readRest(pipe *os.File, out *Output, buffer []byte) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buffer)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			out.write(buffer[:n])
		}
	})
}

// exitStatus is a shell's way to say how a command ended: 128 and the signal's number for one that was killed.
func exitStatus(cmd *exec.Cmd, err error) int {
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	if err != nil && cmd.ProcessState.ExitCode() < 0 {
		return 255
	}
	return cmd.ProcessState.ExitCode()
}

// Done is closed when the command has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit returns the exit status; it is meant for after Done.
func (p *Process) Exit() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// Input writes to the command's standard input; it blocks while the command does not read. Invalid without one.
func (p *Process) Input(text string) error {
	p.mu.Lock()
	stdin := p.stdin
	p.mu.Unlock()
	if stdin == nil {
		return rterr.Invalid("write to a command", "text", "its standard input is not open")
	}
	if _, err := io.WriteString(stdin, text); err != nil {
		return rterr.Invalid("write to a command", "text", "%v", err)
	}
	return nil
}

// CloseInput ends the command's standard input.
func (p *Process) CloseInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	closeAll(p.stdin)
	p.stdin = nil
}

// Signal signals the command's own process, or everything in its process group. No error if it has ended.
func (p *Process) Signal(sig syscall.Signal, group bool) {
	select {
	case <-p.done:
		return
	default:
	}
	if pid := Program(p.cmd); pid > 0 && !group {
		_ = syscall.Kill(pid, sig)
		return
	}
	// All of it; also where the program has not begun yet, and what starts it is all that there is.
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
}
