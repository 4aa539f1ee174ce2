package service

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	agentclient "github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// tunnelHeader is what an authenticated tunnel wants.
const tunnelHeader = "X-Runloop-Tunnel-Authorization"

// tunnel makes the devbox's tunnel, or finds the one that a try before this made.
func (j *job) tunnel(ctx context.Context) error {
	if j.view.Tunnel != nil {
		return nil
	}
	made, err := j.set.api.EnableTunnel(ctx, j.view.ID, api.TunnelAuthMode(j.set.TunnelAuth))
	if err == nil {
		j.view.Tunnel = made
		return nil
	}
	if client.Status(err) == http.StatusBadRequest {
		view, lookErr := j.s.look(ctx, j.set, "", j.view.ID)
		if lookErr != nil {
			return lookErr
		}
		if view.Tunnel != nil {
			j.view = view
			return nil
		}
	}
	return j.named(err)
}

// endpoint is the address of a port of a devbox through its tunnel.
func (set *settings) endpoint(view *api.DevboxView, port int) (*backendv1.EndpointResponse, error) {
	if view.Tunnel == nil {
		return nil, rterr.New(rterr.SandboxUnreachable, "", "devbox %s has no tunnel", view.ID).With("devbox", view.ID).
			WithRemedy("attach to the sandbox again: that makes the tunnel")
	}
	address, path, err := set.Tunnel(view.Tunnel.TunnelKey, port)
	if err != nil {
		return nil, err
	}
	e := &backendv1.EndpointResponse{Address: address, Path: path}
	if token := view.Tunnel.AuthToken; token != nil && *token != "" {
		e.Headers = map[string]string{tunnelHeader: "Bearer " + *token}
	}
	return e, nil
}

// portOf is the port of a devbox's agent.
func (set *settings) portOf(view *api.DevboxView) int {
	port, err := strconv.Atoi(view.Metadata[labelPort])
	if err != nil || port <= 0 {
		return set.Port
	}
	return port
}

// dial makes the way to a devbox's agent; no request is sent.
func (set *settings) dial(view *api.DevboxView, credential string) (*agentclient.Client, error) {
	e, err := set.endpoint(view, set.portOf(view))
	if err != nil {
		return nil, err
	}
	return agentclient.New(agentclient.Config{Address: e.GetAddress(), Path: e.GetPath(), Headers: e.GetHeaders(), Credential: credential})
}

// greet asks the agent once who it is. Integrity if it is that of another devbox.
func (j *job) greet(ctx context.Context) error {
	c, err := j.set.dial(j.view, j.req.GetAgentCredential())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, j.s.waits.info)
	defer cancel()
	info, err := c.Info(ctx)
	if err == nil && info.GetSandboxId() != j.view.ID {
		err = rterr.New(rterr.Integrity, "", "the agent of another sandbox answers in the place of devbox %s", j.view.ID).
			With("answered", info.GetSandboxId())
	}
	if err != nil {
		_ = c.Close() // Nobody uses it.
		return err
	}
	j.s.agents.put(j.view.ID, j.req.GetAgentCredential(), c)
	j.agent = c
	j.seen = map[string]string{"workspace": info.GetWorkspace(), "home": info.GetHome(), "user": info.GetUsername()}
	return nil
}

// ready waits until the agent answers through the tunnel, which may take a moment to warm up, and begins its lease.
func (j *job) ready(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, j.s.waits.ready)
	defer cancel()
	looks := 0
	for wait := j.s.waits.first; ; wait = min(wait*3/2, j.s.waits.most) {
		err := j.greet(limited)
		looks++
		if err == nil {
			return j.renew(ctx)
		}
		if rterr.Is(err, rterr.Integrity) {
			return err
		}
		if sleep(limited, wait, wait) != nil {
			return j.unready(ctx, err, looks)
		}
	}
}

// unready says why an agent never answered.
func (j *job) unready(ctx context.Context, last error, looks int) error {
	if ctx.Err() != nil {
		return rterr.Wrap(rterr.Cancelled, "", context.Cause(ctx))
	}
	view, err := j.s.look(ctx, j.set, "", j.view.ID)
	if err != nil {
		return err
	}
	e := rterr.New(rterr.Timeout, "", "the agent of devbox %s does not answer through the tunnel after %d looks: %v", view.ID, looks, last).
		With("devbox", view.ID).With("status", string(view.Status)).With("last", last.Error()).WithCause(last).
		WithRemedy("see whether the devbox's log has the agent, and whether this machine reaches " + j.set.TunnelURL)
	e.Retryable = false
	return e
}

// renew begins the lease.
func (j *job) renew(ctx context.Context) error {
	return j.s.renewAll(ctx, j.set, j.view, j.agent, j.lease(), j.attached)
}

// until of a lease that begins now.
func leaseUntil(lease time.Duration) time.Time { return time.Now().Add(lease) }
