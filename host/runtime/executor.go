package runtime

import (
	"context"
	"net/http"
	"net/url"

	"google.golang.org/grpc"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Executor runs actions in one sandbox: the agent itself, or the plugin that stands before it. The rules are agent.v1's.
type Executor interface {
	Execute(context.Context, *agentv1.ExecuteRequest) (agent.Stream, error)
	Attach(context.Context, *agentv1.AttachRequest) (agent.Stream, error)
	Interrupt(context.Context, *agentv1.InterruptRequest) (*agentv1.InterruptResponse, error)
	Close() error
}

// Terminal is an Executor that takes input. Only an agent that the host reaches itself has it.
type Terminal interface {
	Input(context.Context, *agentv1.InputRequest) (*agentv1.InputResponse, error)
	Resize(context.Context, *agentv1.ResizeRequest) (*agentv1.ResizeResponse, error)
}

// Files is an Executor that gives access to the sandbox's files and ports. HTTP returns the transport and the base URL of what
// the agent serves beside its RPCs; the transport adds the agent's credential.
type Files interface {
	StatFile(context.Context, *agentv1.StatFileRequest) (*agentv1.StatFileResponse, error)
	ListFiles(context.Context, *agentv1.ListFilesRequest) (*agentv1.ListFilesResponse, error)
	MakeDir(context.Context, *agentv1.MakeDirRequest) (*agentv1.MakeDirResponse, error)
	RemoveFile(context.Context, *agentv1.RemoveFileRequest) (*agentv1.RemoveFileResponse, error)
	ListPorts(context.Context, *agentv1.ListPortsRequest) (*agentv1.ListPortsResponse, error)
	HTTP() (http.RoundTripper, *url.URL)
}

// pluginExecutor is the way through backend.v1 Execute, for sandboxes that the host cannot reach.
type pluginExecutor struct {
	client     func(context.Context) (backendv1.BackendServiceClient, error)
	handle     func() *backendv1.Handle
	credential string
}

var _ Executor = (*pluginExecutor)(nil)

// Execute runs an action through the plugin. Blocks until its first event.
func (p *pluginExecutor) Execute(ctx context.Context, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	return p.open(ctx, &backendv1.ExecuteRequest{Action: req.GetAction(), Output: req.GetOutput(), From: req.GetFrom()})
}

// Attach is Execute with attach_only.
func (p *pluginExecutor) Attach(ctx context.Context, req *agentv1.AttachRequest) (agent.Stream, error) {
	return p.open(ctx, &backendv1.ExecuteRequest{
		Action: &agentv1.Action{Id: req.GetActionId()}, AttachOnly: true, Output: req.GetOutput(), From: req.GetFrom(),
	})
}

func (p *pluginExecutor) open(ctx context.Context, req *backendv1.ExecuteRequest) (agent.Stream, error) {
	client, err := p.client(ctx)
	if err != nil {
		return nil, rterr.From(err).WithRan(rterr.RanNo)
	}
	req.Handle, req.AgentCredential = p.handle(), p.credential
	ctx, cancel := context.WithCancel(ctx)
	upstream, err := client.Execute(ctx, req)
	if err != nil {
		cancel()
		return nil, err
	}
	first, err := upstream.Recv()
	if err != nil {
		cancel()
		return nil, err
	}
	return &grpcStream{upstream: upstream, first: first, cancel: cancel}, nil
}

// Interrupt signals an action through the plugin.
func (p *pluginExecutor) Interrupt(ctx context.Context, req *agentv1.InterruptRequest) (*agentv1.InterruptResponse, error) {
	client, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := client.Interrupt(ctx, &backendv1.InterruptRequest{
		Handle: p.handle(), ActionId: req.GetActionId(), Level: req.GetLevel(), AgentCredential: p.credential,
	})
	if err != nil {
		return nil, err
	}
	return &agentv1.InterruptResponse{Signalled: answer.GetSignalled()}, nil
}

// Close has nothing to release: the connection is the supervisor's.
func (p *pluginExecutor) Close() error { return nil }

// grpcStream is a plugin's stream as an agent.Stream.
type grpcStream struct {
	upstream grpc.ServerStreamingClient[agentv1.ActionEvent]
	first    *agentv1.ActionEvent
	cancel   context.CancelFunc
}

// Recv returns the next event.
func (s *grpcStream) Recv() (*agentv1.ActionEvent, error) {
	if ev := s.first; ev != nil {
		s.first = nil
		return ev, nil
	}
	return s.upstream.Recv()
}

// Close ends the stream.
func (s *grpcStream) Close() error { s.cancel(); return nil }
