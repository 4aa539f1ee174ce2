package service

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

const credential = "test-credential-0123456789"

// bench is a configured service in a folder of its own.
type bench struct {
	*Service
	state string
	owner string
}

// newBench returns a service; when the test ends, nothing of its sandboxes may be left.
func newBench(t testing.TB, keys map[string]any) *bench {
	t.Helper()
	b := &bench{state: t.TempDir(), owner: fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano())}
	b.Service = b.start(t, keys)
	t.Cleanup(func() { b.noLeaks(t) })
	return b
}

// start configures another service on the same folder, as a plugin that was started again.
func (b *bench) start(t testing.TB, keys map[string]any) *Service {
	t.Helper()
	s := newService("test", hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Warn}))
	t.Cleanup(s.stop)
	if _, err := s.Configure(t.Context(), b.configuration(t, keys)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *bench) configuration(t testing.TB, keys map[string]any) *backendv1.ConfigureRequest {
	t.Helper()
	all := map[string]any{"agent_binary": self()}
	for k, v := range keys {
		all[k] = v
	}
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return &backendv1.ConfigureRequest{Config: raw, Owner: b.owner, StateDir: b.state, Backend: "here"}
}

// noLeaks fails if a process, cgroup, mount, socket or folder of the bench's sandboxes is left.
func (b *bench) noLeaks(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.state, "sandboxes"))
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		t.Errorf("folder %s is left", e.Name())
	}
	for _, base := range append([]string{b.machine().placement.V2}, mapValues(b.machine().placement.V1)...) {
		if base == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(base, b.owner)); err == nil {
			t.Errorf("cgroup %s of %s is left", base, b.owner)
		}
	}
	if raw, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(raw), b.state) {
		t.Errorf("a mount is left: %v", err)
	}
	for _, line := range strings.Split(processes(), "\n") {
		if strings.Contains(line, b.state) {
			t.Errorf("process left: %q", line)
		}
	}
}

func mapValues(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// processes returns the environments and arguments of everything that runs: each agent and its tree name their sandbox there.
func processes() string {
	var out strings.Builder
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		for _, name := range []string{"environ", "cmdline"} {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil && len(raw) > 0 {
				out.WriteString(filepath.Base(dir) + " " + strings.ReplaceAll(string(raw), "\x00", " ") + "\n")
			}
		}
	}
	return out.String()
}

// stream collects what a server-streaming method sends.
type stream[T any] struct {
	grpc.ServerStream
	ctx  context.Context
	mu   sync.Mutex
	sent []*T
	on   func(*T) error
}

func (s *stream[T]) Context() context.Context { return s.ctx }

func (s *stream[T]) Send(v *T) error {
	s.mu.Lock()
	s.sent = append(s.sent, v)
	s.mu.Unlock()
	if s.on != nil {
		return s.on(v)
	}
	return nil
}

func request(intent string) *backendv1.ConnectRequest {
	return &backendv1.ConnectRequest{
		RuntimeId: "r-" + intent, Sid: "sid-" + intent, IntentId: intent, Generation: 3, AgentCredential: credential,
		Lease: durationpb.New(5 * time.Minute),
	}
}

// connect connects and returns the last message.
func (b *bench) connect(t testing.TB, s *Service, req *backendv1.ConnectRequest) (*backendv1.Connected, error) {
	t.Helper()
	out := &stream[backendv1.ConnectResponse]{ctx: t.Context()}
	if err := s.Connect(req, out); err != nil {
		return nil, err
	}
	c := out.sent[len(out.sent)-1].GetConnected()
	if c == nil {
		t.Fatalf("the stream ends with %v", out.sent[len(out.sent)-1])
	}
	return c, nil
}

// up returns a new sandbox, which is deleted when the test ends.
func (b *bench) up(t testing.TB, req *backendv1.ConnectRequest) *backendv1.Connected {
	t.Helper()
	c, err := b.connect(t, b.Service, req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.remove(t, c.GetHandle()) })
	return c
}

func (b *bench) remove(t testing.TB, h *backendv1.Handle) {
	t.Helper()
	s := b.Service
	if s.ctx.Err() != nil { // That plugin is no more.
		s = newService("test", nil)
		defer s.stop()
		if _, err := s.Configure(context.Background(), b.configuration(t, nil)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Close(context.Background(), &backendv1.CloseRequest{
		Handle: h, Mode: backendv1.CloseMode_CLOSE_MODE_DELETE, AgentCredential: credential,
	})
	if err != nil {
		t.Errorf("close: %v", err)
	}
}

// sh runs a script in a sandbox, through the plugin, and returns what it wrote to its standard output.
func (b *bench) sh(t testing.TB, s *Service, h *backendv1.Handle, script string) string {
	t.Helper()
	out, err := runScript(t.Context(), s, h, script)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return out
}

func runScript(ctx context.Context, s *Service, h *backendv1.Handle, script string) (string, error) {
	a, err := action.New(action.KindProcess, action.Process{Argv: []string{"sh", "-c", script}}, 0)
	if err != nil {
		return "", err
	}
	events := &stream[agentv1.ActionEvent]{ctx: ctx}
	if err := s.Execute(&backendv1.ExecuteRequest{Handle: h, AgentCredential: credential, Action: a}, events); err != nil {
		return "", err
	}
	var out strings.Builder
	for _, e := range events.sent {
		if o := e.GetOutput(); o.GetChannel() == agentv1.Channel_CHANNEL_STDOUT {
			out.Write(o.GetData())
		}
	}
	return out.String(), nil
}

func opaqueOf(t testing.TB, h *backendv1.Handle) opaque {
	t.Helper()
	o, err := decodeHandle(h)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// ended waits for a process's end.
func ended(t testing.TB, pid int, start uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := sandbox.WaitProcess(ctx, pid, start); err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
}
