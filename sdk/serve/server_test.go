package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

// inProcess serves testBackend in this process.
type inProcess struct {
	backendv1.BackendServiceClient
	backend *backend
	server  *grpc.Server
	logger  hclog.Logger
	log     *syncBuffer
}

func newInProcess(t *testing.T) *inProcess {
	t.Helper()
	p := &inProcess{log: &syncBuffer{}}
	p.logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: p.log})
	var err error
	p.backend, err = newBackend(Options{Name: "test", Version: "1", New: func(env Env) (backendv1.BackendServiceServer, error) {
		return &testBackend{env: env}, nil
	}}, p.logger)
	if err != nil {
		t.Fatal(err)
	}
	p.server = newServer(p.backend.gate, p.logger)
	backendv1.RegisterBackendServiceServer(p.server, p.backend)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		p.server.Stop()
		<-served
	})
	p.BackendServiceClient = backendv1.NewBackendServiceClient(conn)
	return p
}

func TestPanicIsLoggedWhereItWasRaised(t *testing.T) {
	p := newInProcess(t)
	_, err := p.Pause(t.Context(), &backendv1.PauseRequest{})
	e := rterr.From(rtgrpc.FromStatus(err))
	if first, _, _ := strings.Cut(e.Evidence["stack"], "\n"); !strings.Contains(first, "testBackend") || len(e.Evidence["stack"]) > stackTop {
		t.Errorf("the stack begins with %q, %d bytes", first, len(e.Evidence["stack"]))
	}
	if e.Ran != rterr.RanUnknown {
		t.Errorf("ran %v", e.Ran)
	}
	p.log.await(t, "panic in a call")
	p.log.await(t, "method=Pause")
	p.log.await(t, "code=Internal")
}

// TestUnimplementedHasADetail: what the generated server answers for a method that is left out is an error like every other.
func TestUnimplementedHasADetail(t *testing.T) {
	p := newInProcess(t)
	_, unary := p.Usage(t.Context(), &backendv1.UsageRequest{})
	stream, err := p.Logs(t.Context(), &backendv1.LogsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, streamed := stream.Recv()
	for method, err := range map[string]error{"Usage": unary, "Logs": streamed} {
		st := status.Convert(err)
		e := rterr.From(rtgrpc.FromStatus(err))
		if st.Code() != codes.Unimplemented || len(st.Details()) != 1 || e.Reason != rterr.Unsupported || e.Ran != rterr.RanNo {
			t.Errorf("%s: %v, details %v, ran %v", method, err, st.Details(), e.Ran)
		}
		if !strings.Contains(e.Error(), "does not implement "+method) {
			t.Errorf("%s: %v", method, e)
		}
	}
}

func TestExplainedLeavesTheAuthorsWords(t *testing.T) {
	typed := rterr.New(rterr.Unsupported, "usage", "no cgroups here")
	for name, err := range map[string]error{
		"none": nil, "typed": typed, "wrapped": fmt.Errorf("usage: %w", typed), "detailed": rtgrpc.ToStatus(typed),
		"another code": status.Error(codes.NotFound, "no"), "no status": errors.New("no"),
	} {
		if got := explained("/s/Usage", err); got != err {
			t.Errorf("%s: %v became %v", name, err, got)
		}
	}
}

func TestDrainCallsTheAuthorsAndToleratesNone(t *testing.T) {
	p := newInProcess(t)
	if _, err := p.Drain(t.Context(), &backendv1.DrainRequest{}); err != nil {
		t.Errorf("without one: %v", err)
	}
	refusing := &refusingDrain{testBackend: testBackend{env: Env{Logger: p.logger}}}
	p.backend.BackendServiceServer = refusing
	if _, err := p.Drain(t.Context(), &backendv1.DrainRequest{}); !rterr.Is(rtgrpc.FromStatus(err), rterr.Provider) {
		t.Errorf("with one that fails: %v", err)
	}
}

type refusingDrain struct{ testBackend }

func (*refusingDrain) Drain(context.Context, *backendv1.DrainRequest) (*backendv1.DrainResponse, error) {
	return nil, rterr.New(rterr.Provider, "drain", "not now")
}

// TestStopCutsWhatDoesNotEnd stops a server with a call that only ends with its context.
func TestStopCutsWhatDoesNotEnd(t *testing.T) {
	p := newInProcess(t)
	done := make(chan error, 1)
	go func() { _, err := p.Renew(context.Background(), &backendv1.RenewRequest{}); done <- err }()
	p.log.await(t, "renewing")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stop(ctx, p.backend.gate, p.server, p.logger)
	if err := <-done; err == nil {
		t.Error("the call succeeded")
	}
	p.log.await(t, "did not finish in time")
}

func TestServeOnEndsWithItsContext(t *testing.T) {
	var out, log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := listen(ctx, "tcp://127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	m := &program{
		Options: Options{Name: "test", New: func(env Env) (backendv1.BackendServiceServer, error) { return &testBackend{env: env}, nil }},
		stdin:   os.Stdin, stdout: &out, stderr: &log, getenv: func(string) string { return "" },
	}
	if err := m.serveOn(ctx, listener, nil); err != nil {
		t.Errorf("serveOn = %v", err)
	}
	if !strings.HasPrefix(out.String(), "tcp://127.0.0.1:") {
		t.Errorf("printed %q", &out)
	}
}

func TestCertificatesMustBeReadable(t *testing.T) {
	if _, err := hostTLS("no certificate"); err == nil {
		t.Error("hostTLS takes anything")
	}
	if _, err := fileTLS("/nonexistent", "/nonexistent", ""); err == nil {
		t.Error("fileTLS takes files that are not there")
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:0": true, "127.8.8.8:1": true, "[::1]:1": true, "localhost:1": true,
		"0.0.0.0:1": false, "[::]:1": false, ":1": false, "10.0.0.1:1": false, "example.org:1": false, "127.0.0.1": false,
	} {
		if got := isLoopback(address); got != want {
			t.Errorf("isLoopback(%q) = %v", address, got)
		}
	}
}
