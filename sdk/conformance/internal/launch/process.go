package launch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// process runs one plugin binary in a process group of its own. Its exit is watched apart from its pipes: a grandchild that
// holds one must not hide the death.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File // the plugin's lifeline: it reads end of file when this process dies
	stdout *os.File
	stderr *os.File
	remote []*os.File // the plugin's ends, closed here once it has them
	exited chan struct{}
	err    error // how it ended; read after exited is closed
	close  sync.Once

	mu     sync.Mutex
	pid    int  // 0 until it runs
	killed bool // a start after that is refused
}

var _ runner.Runner = (*process)(nil)

func newProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "open pipe", err)
	}
	p.stdin, p.remote = lifeline, append(p.remote, stdin)
	cmd.Stdin = stdin
	for _, end := range []struct {
		host   **os.File
		plugin *io.Writer
	}{{&p.stdout, &cmd.Stdout}, {&p.stderr, &cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			p.closePipes()
			return nil, rterr.Wrap(rterr.Internal, "open pipe", err)
		}
		*end.host, *end.plugin = r, w
		p.remote = append(p.remote, w)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return p, nil
}

func (p *process) Start(context.Context) error {
	err := p.begin()
	for _, f := range p.remote {
		_ = f.Close()
	}
	if err != nil {
		p.closePipes()
		close(p.exited)
		return rterr.Wrap(rterr.PluginUnavailable, "start "+p.cmd.Path, err)
	}
	go func() {
		defer close(p.exited)
		_, p.err = p.cmd.Process.Wait()
	}()
	return nil
}

func (p *process) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return rterr.New(rterr.Cancelled, "", "given up before it began")
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.pid = p.cmd.Process.Pid
	return nil
}

func (p *process) Wait(context.Context) error {
	<-p.exited
	return p.err
}

// Kill sends SIGKILL to the plugin's process group and waits until the plugin is dead.
func (p *process) Kill(context.Context) error {
	p.mu.Lock()
	p.killed = true
	pid := p.pid
	p.mu.Unlock()
	if pid == 0 {
		return nil
	}
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return rterr.Wrap(rterr.Internal, "kill plugin", err)
	}
	timer := time.NewTimer(killLimit)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		return rterr.New(rterr.Timeout, "kill plugin", "process %d outlives SIGKILL", pid)
	}
}

// closePipes ends go-plugin's readers, whoever else still holds the other ends.
func (p *process) closePipes() {
	p.close.Do(func() {
		for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
			if f != nil {
				_ = f.Close()
			}
		}
	})
}

func (p *process) Stdout() io.ReadCloser { return &shortLines{file: p.stdout} }
func (p *process) Stderr() io.ReadCloser { return p.stderr }
func (p *process) Name() string          { return p.cmd.Path }

func (p *process) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 {
		return ""
	}
	return strconv.Itoa(p.pid)
}

func (p *process) Diagnose(context.Context) string { return "" }

func (p *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// maxLine is well below the 64 KiB at which go-plugin's scanner gives up on stdout for good, which would block the plugin.
const maxLine = 16 << 10

// shortLines passes stdout on with the rest of any over-long line cut off.
type shortLines struct {
	file *os.File
	line int // length of the present line so far
}

func (s *shortLines) Close() error { return s.file.Close() }

func (s *shortLines) Read(p []byte) (int, error) {
	for {
		n, err := s.file.Read(p)
		if kept := s.cut(p[:n]); kept > 0 || err != nil {
			return kept, err
		}
	}
}

// cut drops from p, in place, what is beyond maxLine of its line, and returns how much is left.
func (s *shortLines) cut(p []byte) int {
	kept := p[:0]
	for len(p) > 0 {
		line, ended := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line, ended = p[:i], true
		}
		p = p[len(line):]
		kept = append(kept, line[:min(len(line), max(0, maxLine-s.line))]...)
		s.line += len(line)
		if ended {
			kept, p, s.line = append(kept, '\n'), p[1:], 0
		}
	}
	return len(kept)
}
