// Package shell keeps one interactive bash on a terminal of its own and runs commands in it, one at a time.
//
// Commands are not typed and their end is not searched for: a prompt hook (rc.sh) reports over a private socket and reads the
// next command from a private file in memory. The terminal carries nothing but the output of commands and what is typed to them.
// Only sdk/agent/engine imports it.
package shell

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

//go:embed rc.sh
var rcScript []byte

// Descriptors of the shell that rc.sh knows. High ones, out of the way of what users write.
const (
	fdRC      = 246
	fdControl = 247
	fdCommand = 248
)

// Config is what a session needs. All fields but Logger are required.
type Config struct {
	Tree sandbox.Tree
	// Bash is the command of the shell; options follow it.
	Bash []string
	Env  []string
	// Dir is the first working directory.
	Dir        string
	Rows, Cols uint16
	Logger     hclog.Logger
}

// Handler hears what a session does. Calls come one at a time, in the order of the terminal's bytes, from the session's
// goroutines; they must not block for long. They may call any method but Close. No call comes after Close has returned.
type Handler interface {
	// Output is what the terminal gave since the shell was ready; p is only valid during the call.
	Output(p []byte)
	// Idle: the shell waits for a command, and all output of the one before has been given to Output. The first call says that
	// the shell is ready; its nonce is empty. Each other one has the nonce of the last Run.
	Idle(r Report)
	// Exited: the shell has ended, whoever ended it, and all that it wrote has been given to Output.
	Exited(state *os.ProcessState)
}

// Session is one shell. Its methods may be called from any goroutine.
type Session struct {
	handler Handler
	log     hclog.Logger
	cmd     *exec.Cmd
	master  *os.File
	slave   *os.File
	control *os.File
	command *os.File
	decoder decoder

	// run guards what Run and reports share.
	run struct {
		sync.Mutex
		sequence uint64
		// flags are the options that were set then.
		flags string
		// nonce of a command whose end has not been reported; heard: there was a report.
		nonce string
		heard bool
		// disturbed: a signal may be on its way. pending then is the next command until the shell has settled, settling counts the
		// tries, and withdrawn says that it is not to be given at all.
		disturbed bool
		pending   *pending
		settling  int
		withdrawn bool
		large     bool
		typed     bool
	}
	// out guards the order of the handler's calls: whoever reads the terminal hands on what it read before another may read.
	out struct {
		sync.Mutex
		buffer [16 << 10]byte
		// ready: what the shell says before its first report is dropped, and counted, as is what a signal makes of an idle one.
		ready   bool
		dropped uint64
		closed  bool
	}

	ended      chan struct{}
	goroutines sync.WaitGroup
	closing    sync.Once
}

// Start starts a shell. It returns before the shell is ready: the first Idle says so, or Exited that it never will be.
func Start(cfg Config, h Handler) (*Session, error) {
	key := rand.Text()
	s := &Session{handler: h, log: cfg.Logger, ended: make(chan struct{}), decoder: decoder{key: []byte(key)}}
	if s.log == nil {
		s.log = hclog.NewNullLogger()
	}
	theirs, err := s.open(cfg, key)
	if err == nil {
		s.cmd = s.build(cfg, theirs)
		err = cfg.Tree.Start(s.cmd, "")
	}
	for _, f := range theirs {
		_ = f.Close() // The shell has its own copies; there is nothing to flush.
	}
	if err != nil {
		s.release()
		return nil, rterr.Wrap(rterr.Internal, "start shell", err)
	}
	s.goroutines.Add(3)
	go s.readTerminal()
	go s.readControl()
	go s.wait()
	return s, nil
}

// open makes the terminal and the private channel. It returns the shell's ends: terminal, control socket, start script.
func (s *Session) open(cfg Config, key string) (theirs []*os.File, err error) {
	var slave *os.File
	if s.master, slave, err = openTerminal(cfg.Rows, cfg.Cols); err != nil {
		return nil, err
	}
	theirs = append(theirs, slave)
	// A second opening: this one never blocks, the shell's does.
	if s.slave, err = openPeer(s.master); err != nil {
		return theirs, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return theirs, fmt.Errorf("open control socket: %w", err)
	}
	_ = unix.SetNonblock(pair[0], true) // Cannot fail on a socket; without it a read would hold a thread.
	s.control = os.NewFile(uintptr(pair[0]), "control")
	theirs = append(theirs, os.NewFile(uintptr(pair[1]), "control"))
	if s.command, err = memoryFile("command"); err != nil {
		return theirs, err
	}
	rc, err := memoryFile("rc")
	if err != nil {
		return theirs, err
	}
	_, err = rc.Write(bytes.Replace(rcScript, []byte("@KEY@"), []byte(key), 1))
	return append(theirs, rc), err
}

func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (s *Session) build(cfg Config, theirs []*os.File) *exec.Cmd {
	args := append([]string{"--rcfile", "/proc/self/fd/" + strconv.Itoa(fdRC)}, cfg.Bash[1:]...)
	cmd := exec.Command(cfg.Bash[0], append(args, "-i")...)
	cmd.Env, cmd.Dir = cfg.Env, cfg.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[0], theirs[0]
	cmd.SysProcAttr = &unix.SysProcAttr{Setctty: true, Ctty: 0}
	cmd.ExtraFiles = make([]*os.File, fdCommand-2)
	cmd.ExtraFiles[fdControl-3] = theirs[1]
	cmd.ExtraFiles[fdRC-3] = theirs[2]
	cmd.ExtraFiles[fdCommand-3] = s.command
	return cmd
}

// Pid is the shell's.
func (s *Session) Pid() int { return s.cmd.Process.Pid }

// Kill ends the shell itself, whatever it does, and nothing else. Exited follows.
func (s *Session) Kill() {
	_ = s.cmd.Process.Kill() // It fails only when the shell has ended.
}

// Close kills the shell if it lives, and waits until the session's goroutines have ended. Not to be called by a handler.
func (s *Session) Close() {
	s.closing.Do(func() {
		s.out.Lock()
		s.out.closed = true
		s.out.Unlock()
		s.Kill()
		s.release()
	})
	s.goroutines.Wait()
}

// release closes what open has opened.
func (s *Session) release() {
	for _, f := range []*os.File{s.master, s.slave, s.control, s.command} {
		if f != nil {
			_ = f.Close() // Nothing is buffered in any of them.
		}
	}
}

// wait hears the end of the shell.
func (s *Session) wait() {
	defer s.goroutines.Done()
	_ = s.cmd.Wait() // The state says more than the error.
	close(s.ended)
	s.settled(func() { s.handler.Exited(s.cmd.ProcessState) })
}
