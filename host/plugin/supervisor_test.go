package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// rig is a supervisor under test with its states and its log.
type rig struct {
	*Supervisor
	states chan Snapshot
	log    *logBuffer
	dir    string
}

func specFor(role, config string) Spec {
	return Spec{
		Backend: "b", Command: []string{os.Args[0]}, Env: map[string]string{envRole: role, "GORACE": "atexit_sleep_ms=0"}, Config: []byte(config),
		Restart: Policy{Base: time.Millisecond, Max: 2 * time.Millisecond, Budget: 3},
	}
}

func newRig(t *testing.T, spec Spec, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{states: make(chan Snapshot, 1000), log: &logBuffer{}, dir: filepath.Join(shortDir(t), "run")}
	opts := Options{
		Logger:     hclog.New(&hclog.LoggerOptions{Name: "host", Level: hclog.Trace, Output: r.log, JSONFormat: true}),
		RuntimeDir: r.dir, OnState: func(s Snapshot) { r.states <- s },
	}
	for _, f := range change {
		f(&opts)
	}
	r.Supervisor = New(spec, opts)
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

func started(t *testing.T, spec Spec, change ...func(*Options)) *rig {
	t.Helper()
	r := newRig(t, spec, change...)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// await blocks until the supervisor enters a state.
func (r *rig) await(t *testing.T, want State) Snapshot {
	t.Helper()
	for {
		select {
		case s := <-r.states:
			if s.State == want {
				return s
			}
		case <-t.Context().Done():
			t.Fatalf("never %v", want)
		}
	}
}

func (r *rig) client(t *testing.T) backendv1.BackendServiceClient {
	t.Helper()
	c, err := r.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *rig) ask(t *testing.T, what string) string {
	t.Helper()
	answer, err := r.client(t).VSCodeURL(t.Context(), &backendv1.VSCodeURLRequest{Folder: what})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetUrl()
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "plg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestRunning(t *testing.T) {
	var adopted []string
	r := started(t, specFor("plain", `{"Warning":"less than wished"}`), func(o *Options) {
		o.OnUp = func(ctx context.Context, c backendv1.BackendServiceClient, d *backendv1.DescribeResponse) error {
			answer, err := c.VSCodeURL(ctx, &backendv1.VSCodeURLRequest{})
			adopted = append(adopted, fmt.Sprint(d.GetCapabilities().GetPause(), " ", answer.GetUrl()))
			return err
		}
	})
	pid := r.ask(t, "")
	s := r.Snapshot()
	if s.State != Running || strconv.Itoa(s.PID) != pid || s.Describe.GetName() != "test" || !s.Describe.GetCapabilities().GetPause() ||
		len(s.Warnings) != 1 || s.Starts != 1 || s.Failures != 0 || len(s.SHA256) != 64 || s.LastError != nil {
		t.Errorf("Snapshot = %+v", s)
	}
	if len(adopted) != 1 || adopted[0] != "true "+pid {
		t.Errorf("adopted %q, pid %s", adopted, pid)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := r.Client(t.Context()); !rterr.Is(err, rterr.PluginUnavailable) {
		t.Errorf("Client after Stop = %v", err)
	}
	if left, _ := os.ReadDir(r.dir); len(left) > 0 {
		t.Errorf("sockets are left: %v", left)
	}
	if err := syscall.Kill(s.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the plugin is left: %v", err)
	}
}

func TestCrashInACall(t *testing.T) {
	for _, c := range []struct{ how, status, evidence string }{
		{"exit", "exit status 3", ""},
		{"panic", "exit status 2", "panic: boom aside"},
	} {
		t.Run(c.how, func(t *testing.T) {
			r := started(t, specFor("plain", ""))
			before := r.ask(t, "")
			_, err := r.client(t).Close(t.Context(), &backendv1.CloseRequest{AgentCredential: c.how})
			e := rterr.From(err)
			if e.Reason != rterr.PluginUnavailable || e.Ran != rterr.RanUnknown || !e.Retryable || e.Evidence["exit_status"] != c.status {
				t.Errorf("error %v, ran %v, evidence %v", e, e.Ran, e.Evidence)
			}
			if !strings.Contains(e.Evidence["panic"], c.evidence) {
				t.Errorf("evidence of the panic: %q", e.Evidence["panic"])
			}
			if after := r.ask(t, ""); after == before {
				t.Error("the plugin was not started again")
			}
			if s := r.Snapshot(); s.Starts != 2 || s.Failures != 1 || rterr.ReasonOf(s.LastError) != rterr.PluginUnavailable {
				t.Errorf("Snapshot = %+v", s)
			}
		})
	}
}

func TestKilledUnderAStream(t *testing.T) {
	r := started(t, specFor("plain", ""))
	stream, err := r.client(t).Execute(t.Context(), &backendv1.ExecuteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.Snapshot().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if e := rterr.From(err); e.Reason != rterr.PluginUnavailable || e.Ran != rterr.RanUnknown || e.Evidence["exit_status"] != "signal: killed" {
		t.Errorf("Recv = %v, ran %v, evidence %v", e, e.Ran, e.Evidence)
	}
	r.ask(t, "")
}

func TestErrorsOfThePluginAreTyped(t *testing.T) {
	r := started(t, specFor("plain", ""))
	_, err := r.client(t).Close(t.Context(), &backendv1.CloseRequest{})
	if e := rterr.From(err); e.Reason != rterr.SandboxGone || e.Ran != rterr.RanNo || !strings.Contains(e.Error(), "backend b: Close: ") {
		t.Errorf("Close = %v", err)
	}
	if _, err := r.client(t).Snapshot(t.Context(), &backendv1.SnapshotRequest{}); !rterr.Is(err, rterr.Unsupported) {
		t.Errorf("Snapshot = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.client(t).List(ctx, &backendv1.ListRequest{}); !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("a cancelled List = %v", err)
	}
	stream, err := r.client(t).Execute(t.Context(), &backendv1.ExecuteRequest{AttachOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Recv()
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the end of a stream = %v, want io.EOF", err)
	}
}

func TestNoiseDoesNotHurt(t *testing.T) {
	r := started(t, specFor("noise", ""))
	r.ask(t, "")
	r.log.await(t, "a line without its end")
	r.log.await(t, "bytes_cut")
	if text := r.log.String(); !strings.Contains(text, `"@level":"warn","@message":"a line without its end"`) {
		t.Error("a stray print is not a warning of the plugin's")
	}
	if o := r.Snapshot().Output; o.DroppedBytes < 1<<20 {
		t.Errorf("%d bytes dropped", o.DroppedBytes)
	}
}

func TestExitAtOnceIsQuarantined(t *testing.T) {
	r := started(t, specFor("exit", ""))
	s := r.await(t, Quarantined)
	e := rterr.From(s.LastError)
	if s.Starts != 4 || s.Failures != 4 || e.Evidence["exit_status"] != "exit status 7" || !strings.Contains(e.Evidence["last_lines"], "cannot find my library") {
		t.Errorf("starts %d, failures %d, error %v, evidence %v", s.Starts, s.Failures, e, e.Evidence)
	}
	_, err := r.Client(t.Context())
	if e := rterr.From(err); e.Reason != rterr.PluginUnavailable || e.Retryable || e.Ran != rterr.RanNo || !strings.Contains(e.Error(), "quarantined") {
		t.Errorf("Client = %v", err)
	}
	if err := r.Reload(t.Context(), specFor("plain", "")); err != nil {
		t.Errorf("Reload = %v", err)
	}
	r.ask(t, "")
}

func TestRefusedConfigDoesNotLoop(t *testing.T) {
	r := started(t, specFor("plain", `{"Refuse":"region"}`))
	s := r.await(t, Misconfigured)
	if e := rterr.From(s.LastError); s.Starts != 1 || e.Reason != rterr.ConfigInvalid || e.Field != "backends.b.config.region" {
		t.Errorf("starts %d, error %v, field %q", s.Starts, e, e.Field)
	}
	if _, err := r.Client(t.Context()); !rterr.Is(err, rterr.PluginUnavailable) {
		t.Errorf("Client = %v", err)
	}
	if err := r.Reload(t.Context(), specFor("plain", `{"Refuse":"zone"}`)); rterr.From(err).Field != "backends.b.config.zone" {
		t.Errorf("Reload = %v", err)
	}
	if err := r.Reload(t.Context(), specFor("plain", "")); err != nil {
		t.Errorf("Reload = %v", err)
	}
	r.ask(t, "")
}

func TestCrashInConfigure(t *testing.T) {
	r := started(t, specFor("plain", `{"Crash":true}`))
	s := r.await(t, Quarantined)
	if e := rterr.From(s.LastError); !strings.Contains(e.Evidence["panic"], "crashed by the config") {
		t.Errorf("%v, evidence %v", e, e.Evidence)
	}
}

func TestOrphanHoldingPipesDoesNotHideTheDeath(t *testing.T) {
	r := started(t, specFor("plain", ""))
	_, err := r.client(t).Close(t.Context(), &backendv1.CloseRequest{AgentCredential: "orphan"})
	e := rterr.From(err)
	if e.Evidence["exit_status"] != "signal: killed" {
		t.Fatalf("%v, evidence %v", e, e.Evidence)
	}
	for _, line := range strings.Split(e.Evidence["last_lines"], "\n") {
		var own bool
		var pid int
		if _, err := fmt.Sscanf(line, "left %t %d", &own, &pid); err != nil {
			continue
		}
		if own { // of another session: not the plugin's any more, and ours to end
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("the process of another session was killed too: %v", err)
			}
			continue
		}
		awaitGone(t, pid)
	}
	r.ask(t, "")
}

func TestHangIsFoundAndEnded(t *testing.T) {
	spec := specFor("plain", "")
	spec.Timing = Timing{HealthEvery: 20 * time.Millisecond, HealthLimit: 100 * time.Millisecond, HealthMisses: 2}
	r := started(t, spec)
	r.ask(t, "")
	pid := r.Snapshot().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s := r.await(t, Backoff)
	if e := rterr.From(s.LastError); !errors.Is(e, errHung) {
		t.Errorf("error %v", e)
	}
	awaitGone(t, pid)
	r.ask(t, "")
}

func TestForeignPluginThatWillNotGo(t *testing.T) {
	for role, status := range map[string]string{"foreign": "exit status 0", "deaf": "signal: killed"} {
		t.Run(role, func(t *testing.T) {
			r := started(t, specFor(role, ""))
			r.ask(t, "print")
			r.log.await(t, "printed through go-plugin")
			p := r.currentProcess()
			if err := r.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if got := p.exitStatus(); got != status {
				t.Errorf("ended with %q, want %q", got, status)
			}
			if role == "foreign" {
				r.log.await(t, "told to go by SIGTERM")
			}
		})
	}
}

func TestStopWithoutPatience(t *testing.T) {
	spec := specFor("plain", "")
	spec.Timing.Drain = time.Hour
	r := started(t, spec)
	client := r.client(t)
	done := make(chan error, 1)
	go func() {
		_, err := client.Close(context.Background(), &backendv1.CloseRequest{AgentCredential: "wait"})
		done <- err
	}()
	r.log.await(t, "waiting")
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(ctx) }()
	r.await(t, Stopping)
	cancel()
	if err := <-stopped; !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("Stop = %v", err)
	}
	if err := <-done; !rterr.Is(err, rterr.PluginUnavailable) {
		t.Errorf("the running call ended with %v", err)
	}
}

func TestStopWhileStarting(t *testing.T) {
	r := started(t, specFor("mute", ""))
	r.log.await(t, `"@message":"mute"`)
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStartTimeout(t *testing.T) {
	spec := specFor("mute", "")
	spec.Timing.Start, spec.Restart.Budget = 100*time.Millisecond, 1
	r := started(t, spec)
	s := r.await(t, Quarantined)
	if e := rterr.From(s.LastError); !strings.Contains(e.Error(), "timeout") {
		t.Errorf("error %v", e)
	}
}
