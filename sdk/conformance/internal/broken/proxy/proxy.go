// Package proxy is a backend that passes every call on to another plugin, for the deliberately broken plugins that test the
// conformance suite: each of them changes one thing. Nothing but those mains imports it.
package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"

	"google.golang.org/grpc"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/launch"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// EnvUpstream names the environment variable with the upstream plugin's command, a JSON array of strings.
const EnvUpstream = "CONFORMANCE_UPSTREAM"

// Backend forwards to a plugin of its own, which it launches at the first call and which ends with this process.
// Embed it and override what shall be wrong.
type Backend struct {
	backendv1.UnimplementedBackendServiceServer

	once   sync.Once
	client backendv1.BackendServiceClient
	err    error
}

// Upstream returns the client of the upstream plugin. The first call launches it.
func (b *Backend) Upstream(ctx context.Context) (backendv1.BackendServiceClient, error) {
	b.once.Do(func() { b.client, b.err = start(context.WithoutCancel(ctx)) })
	return b.client, b.err
}

func start(ctx context.Context) (backendv1.BackendServiceClient, error) {
	var command []string
	if err := json.Unmarshal([]byte(os.Getenv(EnvUpstream)), &command); err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, "read "+EnvUpstream, err)
	}
	p, err := launch.Start(ctx, launch.Config{Command: command})
	if err != nil {
		return nil, err
	}
	return backendv1.NewBackendServiceClient(p.Conn), nil
}

func pass[Q, A any](ctx context.Context, b *Backend, req *Q,
	call func(backendv1.BackendServiceClient, context.Context, *Q, ...grpc.CallOption) (*A, error)) (*A, error) {
	up, err := b.Upstream(ctx)
	if err != nil {
		return nil, err
	}
	return call(up, ctx, req)
}

func passStream[Q, A any](b *Backend, req *Q, out grpc.ServerStreamingServer[A],
	call func(backendv1.BackendServiceClient, context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[A], error)) error {
	up, err := b.Upstream(out.Context())
	if err != nil {
		return err
	}
	in, err := call(up, out.Context(), req)
	if err != nil {
		return err
	}
	for {
		event, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.Send(event); err != nil {
			return err
		}
	}
}

// Describe forwards.
func (b *Backend) Describe(ctx context.Context, req *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Describe)
}

// Configure forwards.
func (b *Backend) Configure(ctx context.Context, req *backendv1.ConfigureRequest) (*backendv1.ConfigureResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Configure)
}

// Connect forwards.
func (b *Backend) Connect(req *backendv1.ConnectRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	return passStream(b, req, out, backendv1.BackendServiceClient.Connect)
}

// Execute forwards.
func (b *Backend) Execute(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	return passStream(b, req, out, backendv1.BackendServiceClient.Execute)
}

// Interrupt forwards.
func (b *Backend) Interrupt(ctx context.Context, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Interrupt)
}

// WatchStatus forwards.
func (b *Backend) WatchStatus(req *backendv1.WatchStatusRequest, out grpc.ServerStreamingServer[backendv1.WatchStatusResponse]) error {
	return passStream(b, req, out, backendv1.BackendServiceClient.WatchStatus)
}

// VSCodeURL forwards.
func (b *Backend) VSCodeURL(ctx context.Context, req *backendv1.VSCodeURLRequest) (*backendv1.VSCodeURLResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.VSCodeURL)
}

// Endpoint forwards.
func (b *Backend) Endpoint(ctx context.Context, req *backendv1.EndpointRequest) (*backendv1.EndpointResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Endpoint)
}

// Pause forwards.
func (b *Backend) Pause(ctx context.Context, req *backendv1.PauseRequest) (*backendv1.PauseResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Pause)
}

// Resume forwards.
func (b *Backend) Resume(ctx context.Context, req *backendv1.ResumeRequest) (*backendv1.ResumeResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Resume)
}

// Close forwards.
func (b *Backend) Close(ctx context.Context, req *backendv1.CloseRequest) (*backendv1.CloseResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Close)
}

// List forwards.
func (b *Backend) List(ctx context.Context, req *backendv1.ListRequest) (*backendv1.ListResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.List)
}

// Renew forwards.
func (b *Backend) Renew(ctx context.Context, req *backendv1.RenewRequest) (*backendv1.RenewResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Renew)
}

// Snapshot forwards.
func (b *Backend) Snapshot(ctx context.Context, req *backendv1.SnapshotRequest) (*backendv1.SnapshotResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Snapshot)
}

// Restore forwards.
func (b *Backend) Restore(req *backendv1.RestoreRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	return passStream(b, req, out, backendv1.BackendServiceClient.Restore)
}

// Usage forwards.
func (b *Backend) Usage(ctx context.Context, req *backendv1.UsageRequest) (*backendv1.UsageResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Usage)
}

// Logs forwards.
func (b *Backend) Logs(req *backendv1.LogsRequest, out grpc.ServerStreamingServer[backendv1.LogsResponse]) error {
	return passStream(b, req, out, backendv1.BackendServiceClient.Logs)
}

// Diagnose forwards.
func (b *Backend) Diagnose(ctx context.Context, req *backendv1.DiagnoseRequest) (*backendv1.DiagnoseResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Diagnose)
}

// Drain forwards: the calls that this process has passed on end upstream.
func (b *Backend) Drain(ctx context.Context, req *backendv1.DrainRequest) (*backendv1.DrainResponse, error) {
	return pass(ctx, b, req, backendv1.BackendServiceClient.Drain)
}
