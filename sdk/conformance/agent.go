package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
)

// dialAgent makes a client for what an Endpoint names; no request is sent.
func dialAgent(e *backendv1.EndpointResponse, credential string) (*client.Client, error) {
	return client.New(client.Config{Address: e.GetAddress(), Path: e.GetPath(), Headers: e.GetHeaders(), Credential: credential})
}

// endpoint asks for the address of a port, 0 for the agent.
func (sb *sandbox) endpoint(ctx context.Context, port uint32) (*backendv1.EndpointResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	answer, err := sb.Endpoint(ctx, &backendv1.EndpointRequest{Handle: sb.handle, Port: port})
	return answer, wire(err)
}

// agent returns the client of this sandbox's agent, made at the first call.
func (sb *sandbox) agent(ctx context.Context) (*client.Client, error) {
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
	direct, err := dialAgent(e, sb.credential())
	if err != nil {
		return nil, fmt.Errorf("endpoint of the agent: %w", err)
	}
	sb.direct = direct
	return direct, nil
}

// info asks the agent who it is.
func info(ctx context.Context, a *client.Client) (*agentv1.InfoResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return a.Info(ctx)
}

// input feeds an action.
func input(ctx context.Context, a *client.Client, req *agentv1.InputRequest) (*agentv1.InputResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return a.Input(ctx, req)
}

// fetch sends a GET for a path below an endpoint. The caller closes the body and the client.
func fetch(ctx context.Context, a *client.Client, path string) (*http.Response, error) {
	transport, base := a.HTTP()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String()+path, nil)
	if err != nil {
		return nil, err
	}
	return transport.RoundTrip(req)
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
		_ = sb.direct.Close() // it has no error to tell: the connections are idle
		sb.direct = nil
	}
}

// hangUp gives up the connections to the agent.
func (sb *sandbox) hangUp() {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.forget()
}

// withCredential is the same sandbox to somebody who has another credential.
func (sb *sandbox) withCredential(credential string) *sandbox {
	req := proto.CloneOf(sb.req)
	req.AgentCredential = credential
	return &sandbox{peer: sb.peer, req: req, connected: sb.connected, handle: sb.handle, log: sb.log}
}
