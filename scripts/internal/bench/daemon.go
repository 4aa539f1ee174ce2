package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// The names of what goes through the daemon.
const (
	hostRun     = "run over runtime/v1"
	hostProcess = "process over runtime/v1"
	hostCreate  = "create to first observation"
)

// idleRuntimes is how many runtimes the memory of one is taken from.
const idleRuntimes = 10

// daemonProcess is a running daemon with its API.
type daemonProcess struct {
	b        *bench
	cmd      *exec.Cmd
	env      []string
	runtimes runtimev1connect.RuntimeServiceClient
	actions  runtimev1connect.ActionServiceClient
}

// startDaemon runs `openhands-rt serve` and waits until it says that it is ready.
func (b *bench) startDaemon(name string, env ...string) (*daemonProcess, error) {
	data := filepath.Join(b.dir, name)
	d := &daemonProcess{b: b, env: append(os.Environ(),
		"OPENHANDS_RT_DATA_DIR="+data, "OPENHANDS_RT_LISTEN=127.0.0.1:0", "OPENHANDS_RT_SANDBOX_LISTEN=127.0.0.1:0",
		"OPENHANDS_RT_LOG_LEVEL=warn")}
	d.env = append(d.env, env...)
	d.cmd = exec.Command(filepath.Join(b.bin, "openhands-rt"), "serve")
	d.cmd.Env, d.cmd.Stderr = d.env, os.Stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if !bufio.NewScanner(out).Scan() {
		return nil, errors.New("the daemon ended before it was ready")
	}
	go io.Copy(io.Discard, out) //nolint:errcheck // ends with the daemon
	return d, d.dial(data)
}

func (d *daemonProcess) dial(data string) error {
	var endpoint struct {
		URL     string `json:"url"`
		KeyFile string `json:"key_file"`
	}
	text, err := os.ReadFile(filepath.Join(data, "endpoint.json")) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &endpoint); err != nil {
		return err
	}
	key, err := os.ReadFile(endpoint.KeyFile)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: keyed{strings.TrimSpace(string(key))}}
	d.runtimes = runtimev1connect.NewRuntimeServiceClient(client, endpoint.URL)
	d.actions = runtimev1connect.NewActionServiceClient(client, endpoint.URL)
	return nil
}

// keyed adds the API key to each request.
type keyed struct{ key string }

// RoundTrip sends the request with the key.
func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+k.key)
	return http.DefaultTransport.RoundTrip(r)
}

func (d *daemonProcess) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}

func (d *daemonProcess) create() (*runtimev1.Runtime, error) {
	resp, err := d.runtimes.CreateRuntime(d.b.ctx, connect.NewRequest(&runtimev1.CreateRuntimeRequest{Wait: true}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetRuntime(), nil
}

func (d *daemonProcess) remove(id string) error {
	_, err := d.runtimes.StopRuntime(d.b.ctx, connect.NewRequest(&runtimev1.StopRuntimeRequest{RuntimeId: id}))
	return err
}

func (d *daemonProcess) run(id, kind string, payload any) error {
	a, err := action.New(kind, payload, 0)
	if err != nil {
		return err
	}
	resp, err := d.actions.RunAction(d.b.ctx, connect.NewRequest(&runtimev1.RunActionRequest{RuntimeId: id, Action: a}))
	if err == nil && resp.Msg.GetObservation().GetExitCode() != 0 {
		err = fmt.Errorf("unexpected observation %v", resp.Msg.GetObservation())
	}
	return err
}

// daemon measures the whole house.
func (b *bench) daemon() error {
	d, err := b.startDaemon("data")
	if err != nil {
		return err
	}
	defer d.stop()
	r, err := d.create()
	if err != nil {
		return err
	}
	id := r.GetId()
	echo := func() error { return d.run(id, action.KindRun, action.Run{Command: "echo hi"}) }
	if err := b.measure(hostRun, b.rounds, echo); err != nil {
		return err
	}
	if err := d.v0(r); err != nil {
		return err
	}
	process := func() error { return d.run(id, action.KindProcess, action.Process{Argv: []string{"/bin/true"}}) }
	if err := b.measure(hostProcess, b.rounds/2, process); err != nil {
		return err
	}
	if err := b.measure(hostCreate, min(b.rounds, 30), d.createAndRun); err != nil {
		return err
	}
	if b.small {
		return d.remove(id)
	}
	for _, part := range []func(string) error{d.largeOutput, d.copies} {
		if err := part(id); err != nil {
			return err
		}
	}
	if err := d.idleMemory(); err != nil {
		return err
	}
	return d.remove(id)
}

func (d *daemonProcess) createAndRun() error {
	r, err := d.create()
	if err != nil {
		return err
	}
	if err := d.run(r.GetId(), action.KindRun, action.Run{Command: "echo hi"}); err != nil {
		return err
	}
	return d.remove(r.GetId())
}

// largeOutput streams 50 MB of a process through the daemon, beside the same through a pipe.
func (d *daemonProcess) largeOutput(id string) error {
	const size, script = 50 << 20, "head -c 52428800 /dev/zero"
	began := time.Now()
	if n, err := rawPipe(d.b.ctx, script); err != nil || n != size {
		return fmt.Errorf("pipe: %d bytes, %w", n, err)
	}
	pipe := size / time.Since(began).Seconds()
	a, err := action.New(action.KindProcess, action.Process{Argv: []string{"sh", "-c", script}}, 0)
	if err != nil {
		return err
	}
	began = time.Now()
	stream, err := d.actions.ExecuteAction(d.b.ctx, connect.NewRequest(&runtimev1.ExecuteActionRequest{
		RuntimeId: id, Action: a, Output: agentv1.OutputMode_OUTPUT_MODE_STREAM,
	}))
	if err != nil {
		return err
	}
	got := 0
	for stream.Receive() {
		got += len(stream.Msg().GetOutput().GetData())
	}
	if stream.Err() != nil || got != size {
		return fmt.Errorf("stream: %d bytes, %w", got, stream.Err())
	}
	d.b.throughput = append(d.b.throughput, figure{"50 MB output over runtime/v1", size / time.Since(began).Seconds(), "a pipe", pipe})
	return nil
}

// copies times `openhands-rt cp` of a large file both ways, beside cp on the same disk.
func (d *daemonProcess) copies(id string) error {
	source, raw, back := filepath.Join(d.b.dir, "source"), filepath.Join(d.b.dir, "raw"), filepath.Join(d.b.dir, "back")
	if err := exec.CommandContext(d.b.ctx, "sh", "-c",
		fmt.Sprintf("head -c %d /dev/urandom >%s && sync", d.b.size, source)).Run(); err != nil { //nolint:gosec // our own paths
		return err
	}
	timed := func(name string, args ...string) (float64, error) {
		cmd := exec.CommandContext(d.b.ctx, name, args...) //nolint:gosec // our own command
		cmd.Env = d.env
		began := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%s: %w: %s", name, err, out)
		}
		rate := float64(d.b.size) / time.Since(began).Seconds()
		return rate, exec.CommandContext(d.b.ctx, "sync").Run()
	}
	cli := filepath.Join(d.b.bin, "openhands-rt")
	for _, c := range []struct {
		name     string
		from, to string
	}{{"cp into a runtime", source, id + ":/workspace/f"}, {"cp out of a runtime", id + ":/workspace/f", back}} {
		beside, err := timed("cp", source, raw)
		if err != nil {
			return err
		}
		ours, err := timed(cli, "cp", c.from, c.to)
		if err != nil {
			return err
		}
		d.b.throughput = append(d.b.throughput, figure{c.name, ours, "cp", beside})
	}
	return nil
}

// idleMemory takes the memory of host, plugin and agents while nothing happens.
func (d *daemonProcess) idleMemory() error {
	hostBefore := pss(d.cmd.Process.Pid)
	for range idleRuntimes {
		r, err := d.create()
		if err != nil {
			return err
		}
		defer d.remove(r.GetId()) //nolint:errcheck // the end of a benchmark
		if err := d.run(r.GetId(), action.KindRun, action.Run{Command: "echo hi"}); err != nil {
			return err
		}
	}
	wait(d.b.ctx, 3*time.Second) // garbage collectors come to rest
	hostAfter := pss(d.cmd.Process.Pid)
	agents, n, plugin := 0.0, 0, 0.0
	for pid, cmdline := range cmdlines() {
		switch {
		case strings.Contains(cmdline, "openhands-rt-plugin-local"):
			plugin = rss(pid)
		case strings.HasPrefix(cmdline, filepath.Join(d.b.bin, "openhands-rt")) && strings.Contains(cmdline, "agent"):
			agents += rss(pid)
			n++
		}
	}
	d.b.memory = append(d.b.memory,
		figure{name: "host, resident", value: rss(d.cmd.Process.Pid)}, figure{name: "plugin, resident", value: plugin},
		figure{name: "host, for each further runtime", value: max(hostAfter-hostBefore, 0) / idleRuntimes})
	if n > 0 {
		d.b.memory = append(d.b.memory, figure{name: "agent, resident", value: agents / float64(n)})
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// rss and pss are a process's resident and proportional memory in bytes, 0 if it is gone.
func rss(pid int) float64 { return rollup(pid, "Rss:") }

func pss(pid int) float64 { return rollup(pid, "Pss:") }

func rollup(pid int, field string) float64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == field {
			kib, _ := strconv.ParseFloat(fields[1], 64) // the kernel prints a number
			return kib * 1024
		}
	}
	return 0
}

// cmdlines are the command lines of all processes.
func cmdlines() map[int]string {
	out := map[int]string{}
	entries, _ := os.ReadDir("/proc") // an empty table shows it
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			text, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			out[pid] = strings.ReplaceAll(string(text), "\x00", " ")
		}
	}
	return out
}
