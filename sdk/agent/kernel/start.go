package kernel

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The files in Config.Dir. The names of the sockets are short and relative: the kernel starts in that folder.
const (
	bootstrapFile  = "bootstrap.py"
	launchFile     = "launch.py"
	connectionFile = "connection.json"
	socketPrefix   = "k"
)

// The ends of the names of the sockets.
const (
	portShell = iota + 1
	portIOPub
	portStdin
	portControl
	portHeartbeat
)

// The descriptors that the child inherits beside the standard ones.
const (
	readyFD = 3
	lifeFD  = 4
)

const (
	// maxReady is the longest ready line, maxLog what is kept of what the interpreter writes; in bytes.
	maxReady = 16 << 10
	maxLog   = 8 << 10
)

//go:embed python/bootstrap.py python/launch.py
var programs embed.FS

// connection is what the kernel is told about its sockets.
type connection struct {
	Transport string `json:"transport"`
	IP        string `json:"ip"`
	Shell     int    `json:"shell_port"`
	IOPub     int    `json:"iopub_port"`
	Stdin     int    `json:"stdin_port"`
	Control   int    `json:"control_port"`
	Heartbeat int    `json:"hb_port"`
	Key       string `json:"key"`
	Scheme    string `json:"signature_scheme"`
	Name      string `json:"kernel_name"`
}

// ready is the line of a kernel that listens, or of one that cannot be.
type ready struct {
	Python  string `json:"python"`
	Version string `json:"version"`
	Error   string `json:"error"`
	// Missing is what is not there: "ipykernel", "python", or empty.
	Missing string `json:"missing"`
}

// child is the kernel's process.
type child struct {
	cmd   *exec.Cmd
	group string
	// life is our end of a pipe: the process ends when it closes, with us at the latest.
	life *os.File
	log  *tail
	// dead is closed when the process was reaped.
	dead chan struct{}
}

// prepare writes what the child needs into Dir and returns the key of its messages.
func (c Config) prepare() (key string, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return "", err
	}
	for _, name := range []string{bootstrapFile, launchFile} {
		program, err := programs.ReadFile("python/" + name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(c.Dir, name), program, 0o600); err != nil {
			return "", err
		}
	}
	for name, files := range c.Packages {
		if err := unpack(filepath.Join(c.Dir, name), files); err != nil {
			return "", err
		}
	}
	if err := c.removeSockets(); err != nil {
		return "", err
	}
	key = rand.Text() + rand.Text()
	raw, err := json.Marshal(connection{Transport: "ipc", IP: socketPrefix, Shell: portShell, IOPub: portIOPub, Stdin: portStdin,
		Control: portControl, Heartbeat: portHeartbeat, Key: key, Scheme: "hmac-sha256"})
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.Dir, connectionFile)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) { // So that its mode is ours from the beginning.
		return "", err
	}
	return key, os.WriteFile(file, raw, 0o600)
}

// unpack writes a package of Python; what an earlier build has left there goes.
func unpack(dir string, files fs.FS) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.CopyFS(dir, files)
}

func (c Config) removeSockets() error {
	names, err := filepath.Glob(filepath.Join(c.Dir, socketPrefix+"-*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// arguments of the interpreter: bootstrap.py makes the environment and becomes launch.py.
func (c Config) arguments(dir string) ([]string, error) {
	packages := make([]string, 0, len(c.Packages))
	for name := range c.Packages {
		packages = append(packages, filepath.Join(c.Dir, name))
	}
	launch, err := json.Marshal(map[string]any{"directory": dir, "packages": packages, "ready": readyFD, "life": lifeFD})
	if err != nil {
		return nil, err
	}
	boot, err := json.Marshal(map[string]any{"venv": c.Venv, "launcher": filepath.Join(c.Dir, launchFile), "ready": readyFD,
		"arguments": []string{filepath.Join(c.Dir, connectionFile), string(launch)}})
	if err != nil {
		return nil, err
	}
	return []string{"-I", filepath.Join(c.Dir, bootstrapFile), string(boot)}, nil
}

// spawn starts the child in dir and waits until it listens. Nothing is left of it after an error.
func (c Config) spawn(ctx context.Context, group, dir string) (*child, ready, error) {
	python, err := c.interpreter()
	if err != nil {
		return nil, ready{}, err
	}
	args, err := c.arguments(dir)
	if err != nil {
		return nil, ready{}, err
	}
	ch := &child{cmd: exec.Command(python, args...), group: group, log: &tail{}, dead: make(chan struct{})}
	said, err := ch.start(c)
	if err != nil {
		return nil, ready{}, err
	}
	answer, err := ch.awaitReady(ctx, said)
	if err != nil {
		ch.end(c)
		return nil, ready{}, err
	}
	return ch, answer, nil
}

// start starts the process; said is where its ready line comes.
func (ch *child) start(c Config) (said *os.File, err error) {
	said, tell, readyErr := os.Pipe()
	life, hold, lifeErr := os.Pipe()
	out, in, outErr := os.Pipe()
	defer closeAll(tell, life, in)
	if err = errors.Join(readyErr, lifeErr, outErr); err == nil {
		ch.cmd.Dir, ch.cmd.Env, ch.cmd.ExtraFiles = c.Dir, c.Env, []*os.File{tell, life}
		ch.cmd.Stdout, ch.cmd.Stderr = in, in
		err = c.Tree.Start(ch.cmd, ch.group)
	}
	if err != nil {
		closeAll(said, hold, out)
		return nil, err
	}
	ch.life = hold
	go ch.log.fill(out)
	go func() {
		defer close(ch.dead)
		_ = ch.cmd.Wait() // Its status is in ProcessState.
		_ = out.Close()   // What it has started may hold the other end.
	}()
	return said, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // Pipes; nothing is buffered.
		}
	}
}

// awaitReady reads the ready line.
func (ch *child) awaitReady(ctx context.Context, said *os.File) (ready, error) {
	stop := context.AfterFunc(ctx, func() { _ = said.Close() }) // Wakes the reader.
	defer stop()
	raw, err := io.ReadAll(io.LimitReader(said, maxReady))
	_ = said.Close()
	var r ready
	switch {
	case ctx.Err() != nil:
		return r, rterr.New(rterr.Timeout, "", "the kernel was not ready in time").With("log", ch.log.String()).WithCause(context.Cause(ctx))
	case err != nil:
		return r, err
	case json.Unmarshal(raw, &r) != nil:
		<-ch.dead // It has closed the pipe without a word, or soon will be gone: one that lives goes on to listen.
		return r, rterr.New(rterr.Provider, "", "the kernel ended before it was ready: %s", ch.state()).With("log", ch.log.String()).
			WithRemedy("see the evidence for the interpreter's last words")
	case r.Missing != "":
		return r, noPython("%s", r.Error)
	case r.Error != "":
		return r, rterr.New(rterr.Provider, "", "%s", r.Error)
	}
	return r, nil
}

// noPython is the error of a machine without an interpreter for the kernel.
func noPython(detail string, args ...any) *rterr.Error {
	return rterr.New(rterr.Unsupported, "", detail, args...).WithField("python").
		WithRemedy("make an environment with scripts/python, or name an interpreter that has ipykernel: the key python of the local " +
			"backend, or the first python3 on the sandbox's PATH")
}

// interpreter is the base's.
func (c Config) interpreter() (string, error) {
	if c.Python != "" {
		return c.Python, nil
	}
	for _, entry := range c.Env {
		name, path, _ := strings.Cut(entry, "=")
		if name != "PATH" {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, "python3")
			if info, err := os.Stat(file); filepath.IsAbs(file) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
	}
	return "", noPython("there is no python3 on the sandbox's PATH")
}

// state is how the process has ended. dead must be closed.
func (ch *child) state() string { return ch.cmd.ProcessState.String() }

// kill kills the process alone.
func (ch *child) kill() { _ = ch.cmd.Process.Kill() } // It may have ended.

// killAll kills the process and all that it has started in its group.
func (ch *child) killAll(c Config) {
	if _, err := c.Tree.Signal(ch.group, syscall.SIGKILL); err != nil {
		c.Logger.Warn("cannot kill the kernel's group", "error", err)
	}
	ch.kill()
}

// end is killAll, and waits. It is for a child that nobody supervises.
func (ch *child) end(c Config) {
	ch.killAll(c)
	<-ch.dead
	ch.forget(c)
}

// forget gives up what we hold of a process that has ended; what it has started belongs to the sandbox from then on.
func (ch *child) forget(c Config) {
	_ = ch.life.Close() // Nobody reads it.
	if err := c.Tree.Forget(ch.group); err != nil {
		c.Logger.Warn("cannot forget the kernel's group", "error", err)
	}
}

// tail keeps the end of a stream.
type tail struct {
	mu  sync.Mutex
	end []byte
}

// fill reads to the end and closes.
func (t *tail) fill(from *os.File) {
	defer from.Close()
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		t.mu.Lock()
		t.end = append(t.end, buf[:n]...)
		if len(t.end) > maxLog {
			t.end = append(t.end[:0], t.end[len(t.end)-maxLog:]...)
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(bytes.TrimSpace(t.end)), "?")
}
