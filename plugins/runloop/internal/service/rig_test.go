package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

// agentPath is the sandbox agent alone, built for these tests.
var agentPath string //nolint:gochecknoglobals // made once by TestMain for all tests

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ohrt-runloop-")
	if err != nil {
		panic(err)
	}
	agentPath = filepath.Join(dir, "openhands-rt-agent")
	cmd := exec.Command("go", "build", "-tags", "agentonly", "-ldflags", "-s -w", "-o", agentPath, "../../../../cmd/openhands-rt")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build the agent: %v\n%s", err, text))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// rig is the service over gRPC, and an emulator.
type rig struct {
	backendv1.BackendServiceClient
	t   *testing.T
	s   *Service
	emu *emulator.Server
}

// patience bounds every wait of these tests; it is long because machines are slow.
const patience = 2 * time.Minute

func newRig(t *testing.T, cfg emulator.Config, over map[string]any) *rig {
	t.Helper()
	emu, err := emulator.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, emu: emu, s: newService("test", nil)}
	r.s.waits.blueprint, r.s.waits.snapshot, r.s.waits.ready = 50*time.Millisecond, 50*time.Millisecond, 30*time.Second
	r.s.waits.evictions = 20 * time.Millisecond
	listener, server := bufconn.Listen(1<<20), grpc.NewServer(grpc.ChainUnaryInterceptor(wireUnary), grpc.ChainStreamInterceptor(wireStream))
	backendv1.RegisterBackendServiceServer(server, r.s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///rig", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	r.BackendServiceClient = backendv1.NewBackendServiceClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
		r.s.stop()
		emu.Close()
	})
	r.configure(over)
	return r
}

// wireUnary and wireStream put errors on the wire as sdk/serve does.
func wireUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	answer, err := next(ctx, req)
	return answer, rtgrpc.ToStatus(err)
}

func wireStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return rtgrpc.ToStatus(next(srv, stream))
}

func (r *rig) request(over map[string]any) *backendv1.ConfigureRequest {
	all := map[string]any{
		"base_url": r.emu.URL(), "tunnel_url": r.emu.TunnelTemplate(), "size": "SMALL",
		"agent_binary": map[string]string{machineArch(): agentPath}, "architecture": machineArch(),
		"retry": map[string]any{"delay": "10ms", "max_delay": "200ms"},
	}
	if os.Geteuid() != 0 {
		all["agent_port"] = 0 // Devboxes share the machine's network then.
	}
	for key, value := range over {
		all[key] = value
	}
	raw, err := json.Marshal(all)
	if err != nil {
		r.t.Fatal(err)
	}
	return &backendv1.ConfigureRequest{
		Config: raw, Owner: "owner", Backend: "runloop", Credentials: map[string]string{config.APIKey: r.emu.Key()},
	}
}

func (r *rig) configure(over map[string]any) {
	r.t.Helper()
	if _, err := r.Configure(r.t.Context(), r.request(over)); err != nil {
		r.t.Fatal(rtgrpc.FromStatus(err))
	}
}

// trace is what a Connect said.
type trace struct {
	statuses  []string
	steps     []string
	connected *backendv1.Connected
	err       error
}

func read(stream grpc.ServerStreamingClient[backendv1.ConnectResponse], err error) *trace {
	t := &trace{err: rtgrpc.FromStatus(err)}
	for t.err == nil {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return t
		}
		t.err = rtgrpc.FromStatus(err)
		if st := event.GetStatus(); st != nil {
			t.statuses = append(t.statuses, strings.TrimPrefix(st.GetStatus().String(), "RUNTIME_STATUS_"))
		}
		if step := event.GetStep(); step != nil && step.GetState() != backendv1.StepState_STEP_STATE_STARTED {
			t.steps = append(t.steps, step.GetName()+" "+strings.ToLower(strings.TrimPrefix(step.GetState().String(), "STEP_STATE_")))
		}
		if event.GetConnected() != nil {
			t.connected = event.GetConnected()
		}
	}
	return t
}

// ask makes the request of a new runtime.
func ask(name string) *backendv1.ConnectRequest {
	return &backendv1.ConnectRequest{
		RuntimeId: "rt-" + name, Sid: "sid-" + name, IntentId: "intent-" + name, Generation: 1, Principal: "p",
		Spec: &backendv1.SandboxSpec{HeadlessMode: true}, AgentCredential: "credential-of-" + name + "-0123456789",
		SessionKey: "session", Lease: durationpb.New(10 * time.Minute),
	}
}

// connect runs a Connect to its end.
func (r *rig) connect(req *backendv1.ConnectRequest) *trace {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	return read(r.Connect(ctx, req))
}

// must is connect for one that has to succeed.
func (r *rig) must(req *backendv1.ConnectRequest) *backendv1.Connected {
	r.t.Helper()
	got := r.connect(req)
	if got.err != nil || got.connected == nil {
		r.t.Fatalf("connect: %v, %v\nafter %v", got.err, rterr.From(got.err), got.steps)
	}
	return got.connected
}

// failed is connect for one that must not: it checks that the error names the step, the devbox, a reason and a remedy, and that no
// devbox is left.
func (r *rig) failed(req *backendv1.ConnectRequest, step string) *rterr.Error {
	r.t.Helper()
	before := r.emu.Stats().Alive
	got := r.connect(req)
	e := rterr.From(got.err)
	if e == nil || e.Evidence["step"] != step || e.Remedy == "" {
		r.t.Fatalf("want an error in step %q with a remedy, got %v, %+v after %v", step, got.err, e, got.steps)
	}
	if !slices.Contains(got.steps, step+" failed") {
		r.t.Errorf("the steps are %q", got.steps)
	}
	if left := r.emu.Stats().Alive; left != before {
		r.t.Errorf("%d devboxes are left", left-before)
	}
	return e
}

// execute runs a process to its end, through the plugin.
func (r *rig) execute(h *backendv1.Handle, credential, id string, argv ...string) (string, *agentv1.Observation, error) {
	a, err := action.New(action.KindProcess, action.Process{Argv: argv}, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	if id != "" {
		a.Id = id
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	stream, err := r.Execute(ctx, &backendv1.ExecuteRequest{Handle: h, Action: a, AgentCredential: credential})
	if err != nil {
		return "", nil, rtgrpc.FromStatus(err)
	}
	var out strings.Builder
	var last *agentv1.Observation
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out.String(), last, nil
		}
		if err != nil {
			return out.String(), last, rtgrpc.FromStatus(err)
		}
		out.Write(event.GetOutput().GetData())
		if o := event.GetObservation(); o != nil {
			last = o
		}
	}
}

// say runs a shell command that has to succeed and returns what it prints.
func (r *rig) say(c *backendv1.Connected, req *backendv1.ConnectRequest, script string) string {
	r.t.Helper()
	out, last, err := r.execute(c.GetHandle(), req.GetAgentCredential(), "", "sh", "-c", script)
	if err != nil || last.GetExitCode() != 0 {
		r.t.Fatalf("%s: %v, %v, %q", script, err, last, out)
	}
	return strings.TrimSpace(out)
}

// start begins an action and returns when it has written "ready".
func (r *rig) start(c *backendv1.Connected, req *backendv1.ConnectRequest, id, script string) {
	r.t.Helper()
	a, err := action.New(action.KindProcess, action.Process{Argv: []string{"sh", "-c", script}}, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	a.Id = id
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	stream, err := r.Execute(ctx, &backendv1.ExecuteRequest{Handle: c.GetHandle(), Action: a, AgentCredential: req.GetAgentCredential()})
	if err != nil {
		r.t.Fatal(err)
	}
	var out strings.Builder
	for !strings.Contains(out.String(), "ready") {
		event, err := stream.Recv()
		if err != nil {
			r.t.Fatal(rtgrpc.FromStatus(err))
		}
		out.Write(event.GetOutput().GetData())
	}
}

func (r *rig) close(c *backendv1.Connected, mode backendv1.CloseMode) {
	r.t.Helper()
	if _, err := r.Close(r.t.Context(), &backendv1.CloseRequest{Handle: c.GetHandle(), Mode: mode}); err != nil {
		r.t.Fatal(rtgrpc.FromStatus(err))
	}
}

const (
	closeDelete = backendv1.CloseMode_CLOSE_MODE_DELETE
	closeKeep   = backendv1.CloseMode_CLOSE_MODE_KEEP
)

// want checks a reason.
func want(t *testing.T, err error, reason rterr.Reason) *rterr.Error {
	t.Helper()
	if !rterr.Is(err, reason) {
		t.Fatalf("want %s, got %v (%s)", reason, err, rterr.ReasonOf(err))
	}
	return rterr.From(err)
}
