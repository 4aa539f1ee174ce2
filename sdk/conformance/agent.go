package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1/agentv1connect"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// agentClient speaks agent.v1 at the address of an Endpoint. It is no more than the generated client with the endpoint's path
// and headers: what the SDK's own client smooths over shall be seen here.
type agentClient struct {
	rpc  agentv1connect.AgentServiceClient
	http *http.Client
	base string
}

// dialAgent makes a client for an endpoint; no request is sent.
func dialAgent(e *backendv1.EndpointResponse, credential string) (*agentClient, error) {
	base, transport, err := transportTo(e.GetAddress())
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &dressed{next: transport, headers: e.GetHeaders(), credential: credential}}
	base += e.GetPath()
	return &agentClient{rpc: agentv1connect.NewAgentServiceClient(client, base), http: client, base: base}, nil
}

// transportTo returns the base URL and the transport for the address of an Endpoint.
func transportTo(address string) (string, *http.Transport, error) {
	path, unix := strings.CutPrefix(address, "unix://")
	switch {
	case unix && strings.HasPrefix(path, "/"):
		var dialer net.Dialer
		return "http://agent", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}}, nil
	case strings.HasPrefix(address, "http://"), strings.HasPrefix(address, "https://"):
		return strings.TrimSuffix(address, "/"), &http.Transport{}, nil
	default:
		return "", nil, fmt.Errorf("the endpoint's address %q is neither unix:///path nor http(s)://host", address)
	}
}

// dressed adds the endpoint's headers and the agent's credential to every request.
type dressed struct {
	next       *http.Transport
	headers    map[string]string
	credential string
}

func (d *dressed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range d.headers {
		r.Header.Set(name, value)
	}
	r.Header.Set(agent.CredentialHeader, "Bearer "+d.credential)
	return d.next.RoundTrip(r)
}

// CloseIdleConnections is what http.Client asks a transport for.
func (d *dressed) CloseIdleConnections() { d.next.CloseIdleConnections() }

func (a *agentClient) close() { a.http.CloseIdleConnections() }

func (a *agentClient) execute(ctx context.Context, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	return opened(ctx, req, a.rpc.Execute)
}

func (a *agentClient) attach(ctx context.Context, req *agentv1.AttachRequest) (agent.Stream, error) {
	return opened(ctx, req, a.rpc.Attach)
}

func (a *agentClient) interrupt(ctx context.Context, id string, level agentv1.InterruptLevel) (bool, error) {
	answer, err := asked(ctx, &agentv1.InterruptRequest{ActionId: id, Level: level}, a.rpc.Interrupt)
	return answer.GetSignalled(), err
}

func (a *agentClient) info(ctx context.Context) (*agentv1.InfoResponse, error) {
	return asked(ctx, &agentv1.InfoRequest{}, a.rpc.Info)
}

func (a *agentClient) input(ctx context.Context, req *agentv1.InputRequest) (*agentv1.InputResponse, error) {
	return asked(ctx, req, a.rpc.Input)
}

// asked makes a unary call with callLimit.
func asked[Q, A any](ctx context.Context, req *Q, call func(context.Context, *connect.Request[Q]) (*connect.Response[A], error)) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, rthttp.FromConnect(err)
	}
	return answer.Msg, nil
}

func opened[Q any](ctx context.Context, req *Q,
	call func(context.Context, *connect.Request[Q]) (*connect.ServerStreamForClient[agentv1.ActionEvent], error)) (agent.Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		cancel()
		return nil, rthttp.FromConnect(err)
	}
	return &connectStream{stream: stream, cancel: cancel}, nil
}

// connectStream is an agent.v1 stream as an agent.Stream.
type connectStream struct {
	stream *connect.ServerStreamForClient[agentv1.ActionEvent]
	cancel context.CancelFunc
	once   sync.Once
	err    error
}

func (s *connectStream) Recv() (*agentv1.ActionEvent, error) {
	if s.stream.Receive() {
		return s.stream.Msg(), nil
	}
	if err := s.stream.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, rthttp.FromConnect(err)
	}
	return nil, io.EOF
}

func (s *connectStream) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.err = s.stream.Close()
	})
	return s.err
}

// endpoint asks for the address of a port, 0 for the agent.
func (sb *sandbox) endpoint(ctx context.Context, port uint32) (*backendv1.EndpointResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := sb.Endpoint(ctx, &backendv1.EndpointRequest{Handle: sb.handle, Port: port})
	return answer, wire(err)
}

// agent returns the client of this sandbox's agent, made at the first call.
func (sb *sandbox) agent(ctx context.Context) (*agentClient, error) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.direct != nil {
		return sb.direct, nil
	}
	e, err := sb.endpoint(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("endpoint of the agent: %w", err)
	}
	if e.GetPluginOnly() {
		return nil, errors.New("the agent's endpoint is plugin_only although agent_endpoint is claimed")
	}
	sb.direct, err = dialAgent(e, sb.credential())
	return sb.direct, err
}

// adopt replaces the handle by the one to use from now on; the agent's address may be another, too.
func (sb *sandbox) adopt(h *backendv1.Handle) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.handle = h
	sb.forget()
}

func (sb *sandbox) forget() {
	if sb.direct != nil {
		sb.direct.close()
		sb.direct = nil
	}
}

// withCredential is the same sandbox to somebody who has another credential.
func (sb *sandbox) withCredential(credential string) *sandbox {
	req := proto.CloneOf(sb.req)
	req.AgentCredential = credential
	return &sandbox{peer: sb.peer, req: req, connected: sb.connected, handle: sb.handle, log: sb.log}
}

// hangUp gives up the connections to the agent.
func (sb *sandbox) hangUp() {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.forget()
}
