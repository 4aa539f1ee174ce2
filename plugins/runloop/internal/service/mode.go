package service

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"

	"google.golang.org/grpc"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/bare"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The labels that a devbox without an agent has beside the others: where things are in it, and who may run actions.
const (
	labelHome       = "openhands-rt-home"
	labelUser       = "openhands-rt-user"
	labelWorkspace  = "openhands-rt-workspace"
	labelCredential = "openhands-rt-credential-sha256"
)

// isBare: nothing of ours is in the devboxes.
func (set *settings) isBare() bool { return set.Agent == config.AgentNone }

// bareCapabilities are what the API alone can do.
func (set *settings) bareCapabilities() *backendv1.Capabilities {
	return &backendv1.Capabilities{
		Pause: true, Snapshot: true, Usage: true, Logs: true, Diagnose: true, Isolation: "vm", OnceOnly: true, Ports: true,
		Kinds: bare.Kinds(), Vscode: set.VSCode != nil, WorkspaceMount: set.Workspace == mountedWorkspace,
	}
}

func digestOf(credential string) string {
	sum := sha256.Sum256([]byte(credential))
	return hex.EncodeToString(sum[:])
}

// admit refuses who has another credential than the devbox's runtime.
func admit(view *api.DevboxView, credential string) error {
	if subtle.ConstantTimeCompare([]byte(digestOf(credential)), []byte(view.Metadata[labelCredential])) != 1 {
		return rterr.New(rterr.Unauthenticated, "", "the credential is not that of devbox %s", view.ID).
			WithRemedy("send the sandbox's credential").WithRan(rterr.RanNo)
	}
	return nil
}

// serveBare makes a running devbox without an agent ready.
func (j *job) serveBare(ctx context.Context) error {
	known := j.view.Metadata[labelCredential] != "" && !j.taken
	if known {
		if err := admit(j.view, j.req.GetAgentCredential()); err != nil {
			return rterr.Wrap(rterr.Unauthenticated, stepReady, err)
		}
	}
	if err := j.p.run(stepTunnel, func() (string, error) { return "", j.tunnel(ctx) }); err != nil {
		return err
	}
	err := j.p.run(stepReady, func() (string, error) {
		if err := j.prepare(ctx); err != nil {
			return "", err
		}
		m := j.set.labels(j.req, j.view.Metadata, time.Now().Add(j.lease()))
		m[labelCredential], m[labelHome], m[labelUser] = digestOf(j.req.GetAgentCredential()), j.seen["home"], j.seen["user"]
		m[labelWorkspace] = j.seen["workspace"]
		j.view.Metadata = m
		return "", j.s.renewAll(ctx, j.set, j.view, nil, j.lease(), true)
	})
	if err != nil {
		return err
	}
	return j.startVSCode(ctx)
}

// boxOf returns a devbox for actions.
func (s *Service) boxOf(ctx context.Context, op string, req credentialed) (*bare.Box, error) {
	set, view, err := s.find(ctx, op, req)
	if err != nil {
		return nil, err
	}
	if view.Status != api.DevboxStatusRunning {
		return nil, rterr.Wrap(rterr.SandboxUnreachable, op, notRunning(view))
	}
	if err := admit(view, req.GetAgentCredential()); err != nil {
		return nil, rterr.Wrap(rterr.Unauthenticated, op, err)
	}
	return &bare.Box{
		API: set.api, ID: view.ID, Home: view.Metadata[labelHome], Workspace: view.Metadata[labelWorkspace],
		Created: time.UnixMilli(view.CreateTimeMs),
	}, nil
}

// executeBare is Execute by the API's own executions.
func (s *Service) executeBare(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	const op = "execute action"
	ctx, id := out.Context(), req.GetHandle().GetSandboxId()
	if req.GetAction() == nil {
		return rterr.Invalid(op, "action", "is missing")
	}
	box, err := s.boxOf(ctx, op, req)
	if err != nil {
		return err
	}
	err = box.Execute(ctx, bare.Request{
		Action: req.GetAction(), Output: req.GetOutput(), From: req.GetFrom(), AttachOnly: req.GetAttachOnly(),
		Turn: func(ctx context.Context) (func(), error) {
			return s.turns.take(ctx, "action "+id+" "+req.GetAction().GetId())
		},
	}, out.Send)
	if ctx.Err() != nil {
		return rterr.Wrap(rterr.Cancelled, op, context.Cause(ctx))
	}
	set, confErr := s.configured(op)
	if confErr != nil {
		return confErr
	}
	return rterr.Wrap(rterr.Provider, op, s.explain(ctx, set, id, err))
}

// interruptBare is Interrupt by a command of its own.
func (s *Service) interruptBare(ctx context.Context, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	const op = "interrupt action"
	box, err := s.boxOf(ctx, op, req)
	if err != nil {
		return nil, err
	}
	signalled, err := box.Interrupt(ctx, req.GetActionId(), req.GetLevel())
	if err != nil {
		return nil, rterr.Wrap(rterr.Provider, op, err)
	}
	return &backendv1.InterruptResponse{Signalled: signalled}, nil
}

// bareEndpoint: the agent is this plugin itself; a port is reached through the tunnel, where what listens on all addresses answers.
func (set *settings) bareEndpoint(view *api.DevboxView, port uint32) (*backendv1.EndpointResponse, error) {
	if port == 0 {
		return &backendv1.EndpointResponse{PluginOnly: true}, nil
	}
	return set.endpoint(view, int(port))
}
