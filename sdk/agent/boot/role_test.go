package boot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// roleVar makes the test binary play the role.
const roleVar = "OPENHANDS_RT_TEST_AGENT"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Getenv(roleVar) != "" {
		_ = os.Unsetenv(roleVar)
		os.Exit(Main(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// role is an agent in a process of its own.
type role struct {
	cmd    *exec.Cmd
	cfg    Config
	ready  Ready
	stderr bytes.Buffer
	exited chan struct{}
}

func roleConfig(t *testing.T) Config {
	c := valid()
	c.Socket = filepath.Join(t.TempDir(), "a.sock")
	c.StateDir, c.Workspace, c.Home = filepath.Join(t.TempDir(), "state"), t.TempDir(), t.TempDir()
	c.LogFile = filepath.Join(c.StateDir, "agent.log")
	c.Lease = Duration(time.Hour)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

// begin starts the role and reads its ready line.
func begin(t *testing.T, cfg Config) (*role, error) {
	t.Helper()
	configR, configW, err := os.Pipe()
	must(t, err)
	readyR, readyW, err := os.Pipe()
	must(t, err)
	r := &role{cfg: cfg, exited: make(chan struct{})}
	r.cmd = exec.Command(os.Args[0], "--config-fd=3")
	r.cmd.Env = append(os.Environ(), roleVar+"=1")
	r.cmd.ExtraFiles = []*os.File{configR, readyW}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r.cmd.Stderr = &r.stderr
	must(t, r.cmd.Start())
	must(t, errors.Join(configR.Close(), readyW.Close()))
	_, err = io.WriteString(configW, encode(t, cfg))
	must(t, errors.Join(err, configW.Close()))
	go func() {
		defer close(r.exited)
		_ = r.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.exited
	})
	line, err := bufio.NewReader(readyR).ReadBytes('\n')
	must(t, readyR.Close())
	if err != nil {
		<-r.exited
		t.Fatalf("no ready line: %v; %s", err, r.stderr.String())
	}
	r.ready, err = ParseReady(line)
	return r, err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *role) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: r.ready.Address, Credential: secret})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// end waits for the role's exit and returns its code.
func (r *role) end(t *testing.T) int {
	t.Helper()
	select {
	case <-r.exited:
	case <-time.After(time.Minute):
		t.Fatal("the agent did not end")
	}
	if r.stderr.Len() > 0 {
		t.Errorf("it wrote: %s", r.stderr.String())
	}
	if _, err := os.Lstat(r.cfg.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	return r.cmd.ProcessState.ExitCode()
}

func process(t *testing.T, argv ...string) *agentv1.ExecuteRequest {
	t.Helper()
	a, err := action.New(action.KindProcess, action.Process{Argv: argv}, 0)
	must(t, err)
	return &agentv1.ExecuteRequest{Action: a}
}

// output reads a stream to its observation.
func output(t *testing.T, s agent.Stream) (string, *agentv1.Observation) {
	t.Helper()
	var out strings.Builder
	for {
		ev, err := s.Recv()
		must(t, err)
		if o := ev.GetOutput(); o != nil {
			out.Write(o.GetData())
		}
		if obs := ev.GetObservation(); obs != nil {
			must(t, s.Close())
			return out.String(), obs
		}
	}
}

// firstLine reads a stream until a line is whole.
func firstLine(t *testing.T, s agent.Stream) string {
	t.Helper()
	var out strings.Builder
	for !strings.Contains(out.String(), "\n") {
		ev, err := s.Recv()
		must(t, err)
		out.Write(ev.GetOutput().GetData())
	}
	return strings.TrimSpace(out.String())
}

// detached starts two processes that left session and parent behind, and returns their pids.
func detached(t *testing.T, c *client.Client) []int {
	t.Helper()
	s, err := c.Execute(t.Context(), process(t, "sh", "-c", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & a=$!; sleep 1000 & echo $a $!; wait"))
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	var pids []int
	for text := range strings.FieldsSeq(firstLine(t, s)) {
		pid, err := strconv.Atoi(text)
		must(t, err)
		pids = append(pids, pid)
	}
	return pids
}

func gone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d lives: %v", pid, err)
		}
	}
}

func TestRoleFromStartToShutdown(t *testing.T) {
	r, err := begin(t, roleConfig(t))
	must(t, err)
	ticks, err := sandbox.StartTime(r.cmd.Process.Pid)
	must(t, err)
	if r.ready.PID != r.cmd.Process.Pid || r.ready.StartTicks != ticks || r.ready.Address != "unix://"+r.cfg.Socket {
		t.Errorf("%+v, pid %d, ticks %d", r.ready, r.cmd.Process.Pid, ticks)
	}
	c := r.client(t)
	info, err := c.Info(t.Context())
	must(t, err)
	if !info.StartedAt.AsTime().Equal(r.ready.StartedAt) || info.Nonce != r.cfg.Nonce || info.Generation != 3 || info.Pid != int64(r.ready.PID) {
		t.Errorf("%v, ready %+v", info, r.ready)
	}
	s, err := c.Execute(t.Context(), process(t, "sh", "-c", `env; ls -l /proc/self/fd | wc -l; trap - PIPE HUP; kill -PIPE $$; echo not reached`))
	must(t, err)
	out, obs := output(t, s)
	if !strings.Contains(out, "HOME="+r.cfg.Home) || !strings.Contains(out, "A=b") || strings.Contains(out, secret) || strings.Contains(out, "not reached") {
		t.Errorf("%q", out)
	}
	if obs.ExitCode != nil {
		t.Errorf("a broken pipe did not end the command: %v", obs)
	}
	pids := detached(t, c)
	answer, err := c.Shutdown(t.Context(), &agentv1.ShutdownRequest{})
	must(t, err)
	if answer.Killed < 3 {
		t.Errorf("killed %d", answer.Killed)
	}
	gone(t, pids)
	if code := r.end(t); code != ExitOK {
		t.Errorf("exit %d", code)
	}
	checkLog(t, r.cfg)
}

// checkLog wants JSON lines without the credential.
func checkLog(t *testing.T, cfg Config) {
	t.Helper()
	raw, err := os.ReadFile(cfg.LogFile)
	must(t, err)
	if bytes.Contains(raw, []byte(secret)) {
		t.Error("the credential is in the log")
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	for _, line := range lines {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if len(lines) < 2 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestRoleHidesItsMemory(t *testing.T) {
	r, err := begin(t, roleConfig(t))
	must(t, err)
	s, err := r.client(t).Execute(t.Context(), process(t, "ls", "-l", "/proc/self/fd"))
	must(t, err)
	out, _ := output(t, s)
	if n := strings.Count(out, "->"); n != 4 { // 0, 1, 2 and that of the folder itself
		t.Errorf("a command has other descriptors than its own:\n%s", out)
	}
	if os.Getuid() == 0 {
		return // root may read what it wants
	}
	if f, err := os.Open("/proc/" + strconv.Itoa(r.ready.PID) + "/mem"); err == nil {
		_ = f.Close()
		t.Error("the agent's memory can be read")
	}
}

func TestLeaseEndKillsEverything(t *testing.T) {
	r, err := begin(t, roleConfig(t))
	must(t, err)
	c := r.client(t)
	pids := detached(t, c)
	_, err = c.RenewLease(t.Context(), &agentv1.RenewLeaseRequest{Lease: durationpb.New(50 * time.Millisecond)})
	must(t, err)
	if code := r.end(t); code != ExitLeaseEnded {
		t.Errorf("exit %d", code)
	}
	gone(t, pids)
}

func TestSIGTERMEndsIt(t *testing.T) {
	r, err := begin(t, roleConfig(t))
	must(t, err)
	pids := detached(t, r.client(t))
	must(t, r.cmd.Process.Signal(syscall.SIGHUP)) // no reason to end
	_, err = r.client(t).Info(t.Context())
	must(t, err)
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	if code := r.end(t); code != ExitOK {
		t.Errorf("exit %d", code)
	}
	gone(t, pids)
}

func TestRoleOnTCP(t *testing.T) {
	cfg := roleConfig(t)
	cfg.Socket, cfg.Listen = "", "127.0.0.1:0"
	r, err := begin(t, cfg)
	must(t, err)
	if !strings.HasPrefix(r.ready.Address, "http://127.0.0.1:") || strings.HasSuffix(r.ready.Address, ":0") {
		t.Error(r.ready.Address)
	}
	_, err = r.client(t).Shutdown(t.Context(), &agentv1.ShutdownRequest{})
	must(t, err)
	r.end(t)
}

func TestWhyItCouldNotStart(t *testing.T) {
	t.Run("the socket's folder is missing", func(t *testing.T) {
		cfg := roleConfig(t)
		cfg.Socket = filepath.Join(t.TempDir(), "none", "a.sock")
		r, err := begin(t, cfg)
		if !rterr.Is(err, rterr.Network) {
			t.Errorf("%v", err)
		}
		if code := r.end(t); code != ExitFailed {
			t.Errorf("exit %d", code)
		}
	})
	t.Run("the cgroup cannot be had", func(t *testing.T) {
		cfg := roleConfig(t)
		cfg.Cgroup = filepath.Join(t.TempDir(), "no-cgroup")
		if _, err := begin(t, cfg); err == nil {
			t.Error("it started")
		}
	})
	t.Run("the config is wrong", func(t *testing.T) {
		cmd := exec.Command(os.Args[0], "--config", os.DevNull)
		cmd.Env = append(os.Environ(), roleVar+"=1")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != ExitUsage || !bytes.Contains(out, []byte("config")) {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	cfg := roleConfig(t)
	cfg.LogFile, cfg.ReadyFD = "", 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, Run(ctx, cfg))
	if _, err := os.Lstat(cfg.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// severed is a way to the agent that can be cut.
func severed(t *testing.T, path string) (address string, cut func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var mu sync.Mutex
	var conns []net.Conn
	var wg sync.WaitGroup
	join := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src)
		_ = dst.Close()
		_ = src.Close()
	}
	wg.Go(func() {
		for {
			down, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("unix", path)
			if err != nil {
				_ = down.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, down, up)
			mu.Unlock()
			wg.Go(func() { join(up, down) })
			wg.Go(func() { join(down, up) })
		}
	})
	cut = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
		conns = nil
	}
	t.Cleanup(func() {
		_ = ln.Close()
		cut()
		wg.Wait()
	})
	return "http://" + ln.Addr().String(), cut
}

// TestOutputIsWholeOverCuts counts lines over a connection that is cut again and again, attaching from the offset that was seen.
func TestOutputIsWholeOverCuts(t *testing.T) {
	r, err := begin(t, roleConfig(t))
	must(t, err)
	address, cut := severed(t, r.cfg.Socket)
	c, err := client.New(client.Config{Address: address, Credential: secret})
	must(t, err)
	defer c.Close()
	req := process(t, "sh", "-c", "seq 1 200000")
	s, err := c.Execute(t.Context(), req)
	must(t, err)
	var out strings.Builder
	cuts, observations := 0, 0
	for observations == 0 {
		ev, err := s.Recv()
		if err != nil {
			if !rterr.Is(err, rterr.Network) {
				t.Fatal(err)
			}
			_ = s.Close()
			s, err = c.Attach(t.Context(), &agentv1.AttachRequest{ActionId: req.Action.Id, From: []*agentv1.OutputCursor{
				{Channel: agentv1.Channel_CHANNEL_STDOUT, Offset: uint64(out.Len())},
			}})
			must(t, err)
			continue
		}
		if o := ev.GetOutput(); o != nil {
			if o.GetOffset() != uint64(out.Len()) {
				t.Fatalf("a piece at %d, want %d", o.GetOffset(), out.Len())
			}
			out.Write(o.GetData())
			if out.Len() > (cuts+1)*200_000 && cuts < 4 {
				cuts++
				cut()
			}
		}
		if ev.GetObservation() != nil {
			observations++
		}
	}
	must(t, s.Close())
	var want strings.Builder
	for i := range 200_000 {
		fmt.Fprintln(&want, i+1)
	}
	if out.String() != want.String() || cuts < 2 {
		t.Errorf("%d bytes over %d cuts, want %d", out.Len(), cuts, want.Len())
	}
}

// TestRunAndInput drives the persistent shell, and a process that reads its input.
func TestRunAndInput(t *testing.T) {
	r, err := begin(t, roleConfig(t))
	must(t, err)
	c := r.client(t)
	for _, command := range []string{"cd / && X=kept", `echo "$PWD $X"`} {
		a, err := action.New(action.KindRun, action.Run{Command: command}, 0)
		must(t, err)
		s, err := c.Execute(t.Context(), &agentv1.ExecuteRequest{Action: a})
		must(t, err)
		_, obs := output(t, s)
		if obs.GetExitCode() != 0 || command[0] == 'e' && !bytes.Contains(obs.Payload, []byte("/ kept")) {
			t.Errorf("%s: %v", command, obs)
		}
	}
	a, err := action.New(action.KindProcess, action.Process{Argv: []string{"cat"}, Stdin: true}, 0)
	must(t, err)
	s, err := c.Execute(t.Context(), &agentv1.ExecuteRequest{Action: a})
	must(t, err)
	for range 2 { // a piece that was taken is skipped
		in, err := c.Input(t.Context(), &agentv1.InputRequest{ActionId: a.Id, Data: []byte("typed")})
		must(t, err)
		if in.NextOffset != 5 {
			t.Error(in)
		}
	}
	_, err = c.Input(t.Context(), &agentv1.InputRequest{ActionId: a.Id, Offset: 5, Close: true})
	must(t, err)
	if out, _ := output(t, s); out != "typed" {
		t.Errorf("%q", out)
	}
	frozen(t, c)
}

// frozen checks that a frozen sandbox stands still and goes on after it was thawed.
func frozen(t *testing.T, c *client.Client) {
	t.Helper()
	a, err := action.New(action.KindProcess, action.Process{Argv: []string{"cat"}, Stdin: true}, 0)
	must(t, err)
	s, err := c.Execute(t.Context(), &agentv1.ExecuteRequest{Action: a})
	must(t, err)
	_, err = c.Freeze(t.Context(), &agentv1.FreezeRequest{})
	must(t, err)
	info, err := c.Info(t.Context())
	must(t, err)
	if !info.Frozen || info.Running != 1 {
		t.Errorf("%v", info)
	}
	_, err = c.Execute(t.Context(), process(t, "true"))
	if e := rterr.From(err); e == nil || e.Reason != rterr.SandboxPaused || e.Ran != rterr.RanNo {
		t.Errorf("%v", err)
	}
	_, err = c.Input(t.Context(), &agentv1.InputRequest{ActionId: a.Id, Data: []byte("later"), Close: true})
	must(t, err)
	_, err = c.Thaw(t.Context(), &agentv1.ThawRequest{})
	must(t, err)
	if out, _ := output(t, s); out != "later" {
		t.Errorf("%q", out)
	}
}
