package service

import (
	"cmp"
	"context"

	"google.golang.org/grpc"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// handled and credentialed are what requests have in common.
type handled interface {
	GetHandle() *backendv1.Handle
}

type credentialed interface {
	handled
	GetAgentCredential() string
}

// The steps of Connect.
const (
	stepWorkspace = "workspace"
	stepNamespace = "namespace"
	stepPython    = "python"
	stepAgent     = "agent"
	stepReady     = "ready"
)

// featureJupyter asks for cells of Python.
const featureJupyter = "jupyter"

// progress tells a Connect's caller what happens.
type progress struct {
	grpc.ServerStreamingServer[backendv1.ConnectResponse]
}

func (p progress) status(status backendv1.RuntimeStatus) error {
	return p.Send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Status{
		Status: &backendv1.StatusUpdate{Status: status},
	}})
}

func (p progress) step(name string, state backendv1.StepState, detail string) error {
	return p.Send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Step{
		Step: &backendv1.Step{Name: name, State: state, Detail: detail},
	}})
}

// run tells of one step while do does it; do returns what is worth telling. The error names the step.
func (p progress) run(name string, do func() (string, error)) error {
	if err := p.Context().Err(); err != nil {
		return rterr.Wrap(rterr.Cancelled, name, err)
	}
	if err := p.step(name, backendv1.StepState_STEP_STATE_STARTED, ""); err != nil {
		return rterr.Wrap(rterr.Cancelled, name, err)
	}
	detail, err := do()
	if err != nil {
		_ = p.step(name, backendv1.StepState_STEP_STATE_FAILED, err.Error()) // The stream's own error says the same.
		failed := rterr.From(rterr.Wrap(rterr.Internal, name, err))
		return failed.With("step", name)
	}
	return rterr.Wrap(rterr.Cancelled, name, p.step(name, backendv1.StepState_STEP_STATE_DONE, detail))
}

// connected ends the stream.
func (p progress) connected(set *settings, m folder.Meta, attached bool) error {
	h, err := handleOf(m)
	if err != nil {
		return err
	}
	workspace, home := seen(set, m)
	c := &backendv1.Connected{
		Handle: h, Capabilities: set.capabilities(), Attached: attached, Workspace: workspace, Home: home,
		Username: cmp.Or(m.Username, username()),
	}
	c.Capabilities.WorkspaceMount = m.Mounted
	if err := p.Send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Connected{Connected: c}}); err != nil {
		return rterr.Wrap(rterr.Cancelled, "", err)
	}
	return rterr.Wrap(rterr.Cancelled, "", context.Cause(p.Context()))
}
