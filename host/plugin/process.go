package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sync/errgroup"
)

// process is one launched plugin: go-plugin's runner, with an exit watch and readers of its own. It is started once.
type process struct {
	cmd       *exec.Cmd
	exe       *executable
	thread    *thread
	sink      *sink
	openFiles uint64
	socketDir string

	stdin          *os.File // the lifeline: closed with us
	stdout, stderr *os.File
	// handshake carries the one line of standard output that is go-plugin's; all else on it is a stray print.
	handshakeR *io.PipeReader
	handshakeW *io.PipeWriter
	handshake  *regexp.Regexp

	mu     sync.Mutex
	pid    int  // 0 before the start
	shaken bool // the handshake line was seen
	killed bool // we ended it, or will as soon as it has started
	reaped bool // the pid is no longer ours
	status string
	// exited is closed when the process is gone and all that it wrote was read.
	exited chan struct{}
}

var _ runner.Runner = (*process)(nil)

// newProcess prepares a launch; the file of exe must stay open until Start has returned. Nothing is started.
func newProcess(spec Spec, env []string, exe *executable, t *thread, s *sink) *process {
	p := &process{
		cmd: &exec.Cmd{Args: append([]string{exe.path}, spec.Command[1:]...), Env: env},
		exe: exe, thread: t, sink: s, openFiles: spec.Limits.OpenFiles, exited: make(chan struct{}),
		handshake: regexp.MustCompile(handshakePattern),
	}
	p.handshakeR, p.handshakeW = io.Pipe()
	return p
}

// adopt takes go-plugin's variables and the folder for its socket, before Start. The last of two equal variables wins.
func (p *process) adopt(given *exec.Cmd, socketDir string) {
	p.cmd.Env = append(p.cmd.Env, given.Env...)
	p.socketDir = socketDir
}

// Start starts the process and its goroutines, which end with it.
func (p *process) Start(context.Context) error {
	err := p.start()
	if err != nil {
		_ = p.handshakeW.Close()
		close(p.exited)
		return fmt.Errorf("start %s: %w", p.exe.path, err)
	}
	if p.openFiles > 0 {
		if err := limitOpenFiles(p.pid, p.openFiles); err != nil {
			p.sink.logger.Warn("the limit of open files is not in force", "error", err)
		}
	}
	var readers errgroup.Group
	readers.Go(func() error { return readLines(p.stdout, p.takeStdout) })
	readers.Go(func() error {
		return readLines(p.stderr, func(line []byte, cut int) { p.sink.line("stderr", line, cut) })
	})
	go p.watch(&readers)
	return nil
}

func (p *process) start() error {
	prepare(p.cmd, p.exe)
	theirs, err := p.openPipes()
	if err != nil {
		return err
	}
	p.thread.do(func() { err = p.cmd.Start() })
	for _, f := range theirs {
		_ = f.Close()
	}
	if err != nil {
		p.closePipes()
		return err
	}
	p.mu.Lock()
	p.pid = p.cmd.Process.Pid
	killed := p.killed
	p.mu.Unlock()
	if killed {
		p.signal(syscall.SIGKILL)
	}
	return nil
}

// openPipes returns the plugin's ends.
func (p *process) openPipes() ([]*os.File, error) {
	var theirs [3]*os.File
	var errs [3]error
	theirs[0], p.stdin, errs[0] = os.Pipe()
	p.stdout, theirs[1], errs[1] = os.Pipe()
	p.stderr, theirs[2], errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		p.closePipes()
		for _, f := range theirs {
			_ = f.Close()
		}
		return nil, err
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	return theirs[:], nil
}

func (p *process) closePipes() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		_ = f.Close() // a nil file, or one closed before, is refused without harm
	}
}

// watch sees the process end, ends what is left of its group while the group's id is still its own, and reads its last words.
func (p *process) watch(readers *errgroup.Group) {
	defer close(p.exited)
	if err := awaitExit(p.pid); err == nil {
		p.signal(syscall.SIGKILL)
	} else {
		_ = p.cmd.Wait()
	}
	p.reap()
	deadline := time.Now().Add(pipeLimit)
	_ = p.stdout.SetReadDeadline(deadline)
	_ = p.stderr.SetReadDeadline(deadline)
	if err := readers.Wait(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		p.sink.logger.Warn("read the plugin's output", "error", err)
	}
	_ = p.handshakeW.Close()
	p.closePipes()
}

// reap takes the exit status of a process that has ended, while nobody signals: its id is free from then on. The pipes are
// files: Wait waits for the process alone, not for those that hold its pipes.
func (p *process) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Wait() // the status is in ProcessState, also for a failure
	p.reaped, p.status = true, p.cmd.ProcessState.String()
}

// signal sends sig to the whole process group; nothing once the process is reaped.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid > 0 && !p.reaped {
		_ = syscall.Kill(-p.pid, sig) // gone is what was wanted
	}
}

// processID is 0 before the start.
func (p *process) processID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// shookHands reports whether the handshake line came.
func (p *process) shookHands() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shaken
}

// endedItself reports whether the process died without our doing.
func (p *process) endedItself() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reaped && !p.killed
}

// exitStatus is "exit status 1", "signal: killed"; empty while it runs.
func (p *process) exitStatus() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// handshakePattern finds go-plugin's line, also behind a print that did not end its own.
const handshakePattern = `\d+\|\d+\|(?:unix|tcp)\|[^|]+\|(?:grpc|netrpc)(?:\|[^|]*)*$`

// takeStdout hands the first handshake line to go-plugin. It is called from one goroutine.
func (p *process) takeStdout(line []byte, cut int) {
	at := p.handshake.FindIndex(line)
	if at == nil || cut > 0 || p.shookHands() {
		p.sink.line("stdout", line, cut)
		return
	}
	p.mu.Lock()
	p.shaken = true
	p.mu.Unlock()
	if at[0] > 0 {
		p.sink.line("stdout", line[:at[0]], 0)
	}
	_, _ = p.handshakeW.Write(append(line[at[0]:len(line):len(line)], '\n'))
}

// Wait blocks until the process is gone.
func (p *process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill is go-plugin's last resort. A plugin that knows SIGTERM gets its chance first; returns when the process is gone, or at the
// latest after termLimit.
func (p *process) Kill(context.Context) error {
	p.end(syscall.SIGTERM)
	if !waitFor(p.exited, termLimit) {
		p.end(syscall.SIGKILL)
	}
	return nil
}

// end signals the process group as the host's decision; a process that has not started yet will not live.
func (p *process) end(sig syscall.Signal) {
	p.mu.Lock()
	p.killed = p.killed || !p.reaped
	p.mu.Unlock()
	p.signal(sig)
}

// Stdout is the handshake line, then nothing until the process ends.
func (p *process) Stdout() io.ReadCloser { return p.handshakeR }

// Stderr has nothing for go-plugin, whose reader of log lines trusts them; it ends with the process.
func (p *process) Stderr() io.ReadCloser { return silence{p.exited} }

// Name is the program's path, ID its process id.
func (p *process) Name() string { return p.exe.path }

// ID is the process id, empty before the start.
func (p *process) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return ""
	}
	return strconv.Itoa(p.pid)
}

// Diagnose is asked when the handshake failed; our errors carry the plugin's last lines.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost accepts a socket in the folder that was made for it, and nothing else.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || !strings.HasPrefix(filepath.Clean(address), p.socketDir+string(filepath.Separator)) {
		return "", "", fmt.Errorf("the plugin listens at %s %s, not in the folder that it was given", network, address)
	}
	return network, address, nil
}

// HostToPlugin changes nothing: both see the same files.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// silence is a reader without a byte that ends when a channel closes.
type silence struct{ until <-chan struct{} }

func (s silence) Read([]byte) (int, error) { <-s.until; return 0, io.EOF }
func (s silence) Close() error             { return nil }
