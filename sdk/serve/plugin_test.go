package serve

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

// launched is a plugin under an ordinary go-plugin host.
type launched struct {
	backendv1.BackendServiceClient
	process *os.Process
	stderr  *syncBuffer
	client  *plugin.Client
}

// launch starts this test binary as a plugin, with go-plugin's own launcher and AutoMTLS.
func launch(t *testing.T, role string) *launched {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{envRole + "=" + role, quickExit, "PATH=" + os.Getenv("PATH"), EnvLogLevel + "=trace",
		plugin.EnvUnixSocketDir + "=" + t.TempDir()}
	l := &launched{stderr: &syncBuffer{}}
	l.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: Handshake(), VersionedPlugins: Plugins(nil), Cmd: cmd, SkipHostEnv: true, AutoMTLS: true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Stderr: l.stderr, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(l.client.Kill)
	protocol, err := l.client.Client()
	if err != nil {
		t.Fatalf("start: %v\n%s", err, l.stderr)
	}
	raw, err := protocol.Dispense(PluginName)
	if err != nil {
		t.Fatal(err)
	}
	l.BackendServiceClient, l.process = raw.(backendv1.BackendServiceClient), cmd.Process
	return l
}

func TestPluginUnderGoPlugin(t *testing.T) {
	l := launch(t, "plain")
	answer, err := l.Describe(t.Context(), &backendv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetName() != "test" || answer.GetVersion() != "1.2.3" || answer.GetProtocol() != 1 || answer.GetInstance() == "" ||
		answer.GetSdkVersion() == "" || !answer.GetCapabilities().GetPause() {
		t.Errorf("Describe = %v", answer)
	}
	if got := l.client.NegotiatedVersion(); got != Protocol {
		t.Errorf("negotiated version %d", got)
	}
}

func TestPrintsDoNotBreakTheHandshake(t *testing.T) {
	l := launch(t, "noise")
	if _, err := l.Resume(t.Context(), &backendv1.ResumeRequest{}); err != nil {
		t.Fatalf("a 5 MiB answer after 200 kB of print: %v", err)
	}
	l.stderr.await(t, "printed by the plugin")
	l.stderr.await(t, "and a partial line")
	l.stderr.await(t, "printed in a call")
}

func TestErrorsAndPanicsTravelTyped(t *testing.T) {
	l := launch(t, "plain")
	_, err := l.Configure(t.Context(), &backendv1.ConfigureRequest{Config: []byte(`{"region":"x"}`)})
	if e := rterr.From(rtgrpc.FromStatus(err)); e.Reason != rterr.ConfigInvalid || e.Field != "region" || e.Evidence["seen"] == "" {
		t.Errorf("Configure = %#v", e)
	}
	_, err = l.Pause(t.Context(), &backendv1.PauseRequest{})
	if e := rterr.From(rtgrpc.FromStatus(err)); e.Reason != rterr.Internal || !strings.Contains(e.Evidence["stack"], "testBackend") {
		t.Errorf("Pause = %v, evidence %v", e, e.Evidence)
	}
	stream, err := l.Execute(t.Context(), &backendv1.ExecuteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if e := rterr.From(rtgrpc.FromStatus(err)); e.Reason != rterr.Internal || !strings.Contains(e.Error(), "boom in a stream") {
		t.Errorf("Execute = %v", e)
	}
	if _, err := l.Describe(t.Context(), &backendv1.DescribeRequest{}); err != nil {
		t.Errorf("the plugin did not survive its panics: %v", err)
	}
	_, err = l.Snapshot(t.Context(), &backendv1.SnapshotRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("Snapshot = %v, want Unimplemented", err)
	}
	_, err = l.List(t.Context(), &backendv1.ListRequest{PageToken: strings.Repeat("x", MaxMessage)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request over the limit = %v, want ResourceExhausted", err)
	}
}

func TestTermDrainsAndExitsCleanly(t *testing.T) {
	l := launch(t, "plain")
	watch, err := l.WatchStatus(t.Context(), &backendv1.WatchStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := l.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// A watch does not hold the drain up; it ends with the plugin.
	if _, err := watch.Recv(); err == nil {
		t.Error("the watch went on")
	}
	awaitExited(t, l.client)
	if strings.Contains(l.stderr.String(), "do not return") {
		t.Errorf("not a clean stop:\n%s", l.stderr)
	}
}

func TestDrainRefusesNewSandboxesAndAwaitsCalls(t *testing.T) {
	l := launch(t, "plain")
	ctx, cancel := context.WithCancel(t.Context())
	renewed := make(chan error, 1)
	go func() { _, err := l.Renew(ctx, &backendv1.RenewRequest{}); renewed <- err }()
	l.stderr.await(t, "renewing")
	drained := make(chan error, 1)
	go func() { _, err := l.Drain(t.Context(), &backendv1.DrainRequest{}); drained <- err }()
	// The drain is on once Connect is refused.
	for {
		stream, err := l.Connect(t.Context(), &backendv1.ConnectRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); rterr.Is(rtgrpc.FromStatus(err), rterr.Unavailable) {
			break
		}
	}
	select {
	case err := <-drained:
		t.Fatalf("Drain returned before the running call: %v", err)
	default:
	}
	cancel()
	if err := <-drained; err != nil {
		t.Errorf("Drain = %v", err)
	}
	<-renewed
}

func TestHostWithoutCertificateIsRefused(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{envRole + "=plain", quickExit, cookieKey + "=" + cookieValue}
	text, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(text), "AutoMTLS is required") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestLifeline starts a plugin whose standard input is the lifeline, in the middle of a call, and lets go of it.
func TestLifeline(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := newCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{envRole + "=plain", quickExit, cookieKey + "=" + cookieValue, EnvLifeline + "=stdin",
		plugin.EnvUnixSocketDir + "=" + t.TempDir(), envClientCert + "=" + pemOf(cert.Certificate[0])}
	cmd.Stdin = read
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read.Close()
	line := make([]byte, 7)
	if _, err := io.ReadFull(stdout, line); err != nil || string(line) != "1|1|uni" {
		t.Fatalf("handshake %q: %v", line, err)
	}
	write.Close()
	rest, err := io.ReadAll(stdout)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(rest, []byte("\n")) != 1 {
		t.Errorf("standard output has more than the handshake line: %q", rest)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func awaitExited(t *testing.T, client *plugin.Client) {
	t.Helper()
	client.Kill() // returns once the process is waited for
	if !client.Exited() {
		t.Error("the plugin did not exit")
	}
}

// syncBuffer is a buffer whose reader can wait for text.
type syncBuffer struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) await(t *testing.T, text string) {
	t.Helper()
	for {
		b.mu.Lock()
		if strings.Contains(b.buf.String(), text) {
			b.mu.Unlock()
			return
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("%q never came", text)
		}
	}
}
