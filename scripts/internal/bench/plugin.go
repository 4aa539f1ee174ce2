package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"

	"time"
)

// The names of the two ways to an agent.
const (
	agentSocketRun = "run at the agent's socket"
	pluginRun      = "run through the plugin (backend/v1 Execute)"
)

const credential = "bench-credential-of-the-agent-0123456789"

// plugin measures both ways to the same agent: straight to its socket, and through the plugin.
func (b *bench) plugin() error {
	socket := filepath.Join(b.dir, "p", "plugin.sock")
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(b.ctx, filepath.Join(b.bin, "openhands-rt-plugin-local"), "serve", "--address", "unix://"+socket) //nolint:gosec // our own binary
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the end of a benchmark
	backend := backendv1.NewBackendServiceClient(conn)
	handle, err := b.connect(backend)
	if err != nil {
		return err
	}
	defer backend.Close(b.ctx, &backendv1.CloseRequest{ //nolint:errcheck // the end of a benchmark
		Handle: handle, Mode: backendv1.CloseMode_CLOSE_MODE_DELETE, AgentCredential: credential,
	})
	if err := b.measure(pluginRun, b.rounds, func() error { return b.throughPlugin(backend, handle) }); err != nil {
		return err
	}
	return b.straight(backend, handle)
}

func (b *bench) connect(backend backendv1.BackendServiceClient) (*backendv1.Handle, error) {
	state := filepath.Join(b.dir, "backend")
	if _, err := backend.Configure(b.ctx, &backendv1.ConfigureRequest{
		Config: []byte("{}"), Owner: "bench", StateDir: state, Backend: "bench",
	}); err != nil {
		return nil, err
	}
	stream, err := backend.Connect(b.ctx, &backendv1.ConnectRequest{
		RuntimeId: "rbench", Sid: "bench", IntentId: "bench", Generation: 1, AgentCredential: credential,
		Lease: durationpb.New(10 * time.Minute), Spec: &backendv1.SandboxSpec{},
	})
	if err != nil {
		return nil, err
	}
	for {
		ev, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if c := ev.GetConnected(); c != nil {
			return c.GetHandle(), nil
		}
	}
}

func (b *bench) throughPlugin(backend backendv1.BackendServiceClient, handle *backendv1.Handle) error {
	a, err := action.New(action.KindRun, action.Run{Command: "echo hi"}, 0)
	if err != nil {
		return err
	}
	stream, err := backend.Execute(b.ctx, &backendv1.ExecuteRequest{Handle: handle, Action: a, AgentCredential: credential})
	if err != nil {
		return err
	}
	return drain[*agentv1.ActionEvent](stream)
}

// straight is the way of the host: the endpoint, then the agent's own client.
func (b *bench) straight(backend backendv1.BackendServiceClient, handle *backendv1.Handle) error {
	endpoint, err := backend.Endpoint(b.ctx, &backendv1.EndpointRequest{Handle: handle})
	if err != nil {
		return err
	}
	agent, err := client.New(client.Config{
		Address: endpoint.GetAddress(), Path: endpoint.GetPath(), Headers: endpoint.GetHeaders(), Credential: credential,
	})
	if err != nil {
		return err
	}
	defer agent.Close() //nolint:errcheck // the end of a benchmark
	return b.measure(agentSocketRun, b.rounds, func() error {
		a, err := action.New(action.KindRun, action.Run{Command: "echo hi"}, 0)
		if err != nil {
			return err
		}
		stream, err := agent.Execute(b.ctx, &agentv1.ExecuteRequest{Action: a})
		if err != nil {
			return err
		}
		defer stream.Close() //nolint:errcheck // the end of a read
		return drain[*agentv1.ActionEvent](stream)
	})
}

// drain reads a stream to its end.
func drain[T any](s interface{ Recv() (T, error) }) error {
	for {
		if _, err := s.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
