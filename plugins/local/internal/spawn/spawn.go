// Package spawn starts sandbox agents so that they outlive the plugin: in a session, a group and a cgroup of their own, with
// their settings and their credential on an inherited descriptor and never in arguments, environment or a file.
package spawn

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// EnterRoot is the first argument with which the plugin's own program builds a sandbox's root (sandbox.EnterMain).
const EnterRoot = "enter-root"

// The descriptors that the agent inherits.
const (
	specFD  = 3
	readyFD = 4
)

// maxReady bounds what the agent may say when it is ready, tailBytes what is kept of its log as evidence; in bytes.
const (
	maxReady  = 64 << 10
	tailBytes = 2 << 10
)

// KeepDescriptors keeps every descriptor that this process has inherited from the programs that it starts. To be called once,
// at the start of main.
func KeepDescriptors() error {
	return os.NewSyscallError("close_range", unix.CloseRange(specFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC))
}

// Request is all that is needed to start an agent.
type Request struct {
	Binary string
	Args   []string
	// Env is the whole environment of the agent.
	Env  []string
	Spec Spec
	// Dir is where the agent starts, as the agent sees it.
	Dir string
	// Log is a file that the agent's standard output and error are appended to.
	Log string
	// Root is nil where the agent keeps the machine's root.
	Root *sandbox.RootSpec
	// Cgroup is the v2 cgroup that the agent starts in; empty for the plugin's own.
	Cgroup string
}

// Process is an agent that was started.
type Process struct {
	PID       int
	StartTime uint64
	// Done is closed when it has ended and was reaped.
	Done <-chan struct{}

	ready *os.File
	log   string
	state func() string
}

// Start starts an agent and returns at once. The caller calls Ready, and Abandon if it gives up.
func Start(req Request) (*Process, error) {
	const op = "start agent"
	p, err := start(req)
	return p, rterr.Wrap(rterr.Internal, op, err)
}

func start(req Request) (*Process, error) {
	log, err := os.OpenFile(req.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	spec, err := specFile(req.Spec)
	if err != nil {
		return nil, err
	}
	defer spec.Close()
	ready, readyEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyEnd.Close()
	cmd, release, err := command(req)
	if err != nil {
		_ = ready.Close()
		return nil, err
	}
	defer release()
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{spec, readyEnd}
	if err := cmd.Start(); err != nil {
		_ = ready.Close()
		return nil, err
	}
	return watch(cmd, ready, req.Log)
}

// command builds the command line; release is called once it was started.
func command(req Request) (cmd *exec.Cmd, release func(), err error) {
	cmd = exec.Command(req.Binary, append(append([]string{}, req.Args...), "--config-fd", strconv.Itoa(specFD))...)
	cmd.Env = req.Env
	// A session of its own: no signal for the plugin's group, no hang-up of its terminal reaches the agent.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	release = func() {}
	if req.Root == nil {
		cmd.Dir = req.Dir
	} else if err := req.Root.Wrap(cmd, []string{"/proc/self/exe", EnterRoot}); err != nil {
		return nil, nil, err
	}
	if req.Cgroup == "" {
		return cmd, release, nil
	}
	fd, err := unix.Open(req.Cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open cgroup: %w", err)
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	return cmd, func() { _ = unix.Close(fd) }, nil
}

// specFile returns the spec in memory that has no name: it never reaches a disk.
func specFile(s Spec) (*os.File, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("agent-spec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "agent-spec")
	_, err = f.Write(raw)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// watch names the process and reaps it when it ends.
func watch(cmd *exec.Cmd, ready *os.File, log string) (*Process, error) {
	started, err := sandbox.StartTime(cmd.Process.Pid) // At least a zombie until it is waited for below.
	if err != nil {
		_ = ready.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // Its status is kept in ProcessState.
	}()
	state := func() string {
		<-done
		return cmd.ProcessState.String()
	}
	return &Process{PID: cmd.Process.Pid, StartTime: started, Done: done, ready: ready, log: log, state: state}, nil
}

// Ready blocks until the agent says that it serves, or ends, or ctx is done. It gives the agent's end of the talk up.
func (p *Process) Ready(ctx context.Context) error {
	const op = "wait for agent"
	defer p.ready.Close()
	stop := context.AfterFunc(ctx, func() { _ = p.ready.Close() }) // Wakes the reader.
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(p.ready, maxReady)).ReadString('\n')
	switch {
	case ctx.Err() != nil:
		return rterr.Wrap(rterr.Timeout, op, context.Cause(ctx))
	case err == nil || (errors.Is(err, io.EOF) && line != ""):
		return notReady(op, line)
	case !errors.Is(err, io.EOF):
		return rterr.Wrap(rterr.Internal, op, err)
	}
	select {
	case <-p.Done:
		return rterr.New(rterr.Provider, op, "the agent ended before it was ready").
			With("status", p.state()).With("log", p.Tail()).WithRemedy("see the evidence for the agent's last words")
	case <-ctx.Done():
		return rterr.Wrap(rterr.Timeout, op, context.Cause(ctx))
	}
}

// notReady reads the agent's line: {"error": ErrorDetail} if it cannot serve, anything else if it does.
func notReady(op, line string) error {
	var said struct {
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		return rterr.New(rterr.Integrity, op, "the agent's ready line cannot be read").WithCause(err)
	}
	if len(said.Error) == 0 {
		return nil
	}
	detail := &agentv1.ErrorDetail{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(said.Error, detail); err != nil {
		return rterr.New(rterr.Provider, op, "the agent cannot serve, and does not say why").WithCause(err)
	}
	return rterr.Wrap(rterr.Provider, op, rtwire.FromDetail(detail))
}

// Tail returns the end of what the agent wrote to its log.
func (p *Process) Tail() string {
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = f.Seek(-tailBytes, io.SeekEnd) // At worst the beginning is shown.
	}
	raw, _ := io.ReadAll(io.LimitReader(f, tailBytes)) // Evidence: what can be read of it.
	return strings.ToValidUTF8(strings.TrimSpace(string(raw)), "?")
}
