package service

import (
	"context"

	"google.golang.org/grpc"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The steps of Connect.
const (
	// stepFind looks for a devbox that is there already.
	stepFind = "find"
	// stepBuild waits for a blueprint.
	stepBuild = "blueprint"
	// stepDevbox makes the devbox, stepBoot waits until it runs, stepResume wakes one that is suspended.
	stepDevbox = "devbox"
	stepBoot   = "boot"
	stepResume = "resume"
	// stepAgent puts the agent into it and starts it, stepTunnel makes the way to it, stepReady waits for its answer.
	stepAgent  = "agent"
	stepTunnel = "tunnel"
	stepReady  = "ready"
	stepVSCode = "vscode"
)

const (
	statusBuilding = backendv1.RuntimeStatus_RUNTIME_STATUS_BUILDING_RUNTIME
	statusStarting = backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME
	statusStarted  = backendv1.RuntimeStatus_RUNTIME_STATUS_RUNTIME_STARTED
	statusReady    = backendv1.RuntimeStatus_RUNTIME_STATUS_READY
)

// progress tells a Connect's caller what happens.
type progress struct {
	why  func() error
	send func(*backendv1.ConnectResponse) error
}

func progressOf(out grpc.ServerStreamingServer[backendv1.ConnectResponse]) progress {
	ctx := out.Context()
	return progress{why: func() error { return context.Cause(ctx) }, send: out.Send}
}

// silent is the progress of what is no Connect.
func silent(ctx context.Context) progress {
	return progress{
		why:  func() error { return context.Cause(ctx) },
		send: func(*backendv1.ConnectResponse) error { return nil },
	}
}

func (p progress) status(status backendv1.RuntimeStatus, message string) error {
	return rterr.Wrap(rterr.Cancelled, "", p.send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Status{
		Status: &backendv1.StatusUpdate{Status: status, Message: message},
	}}))
}

func (p progress) step(name string, state backendv1.StepState, detail string) error {
	return p.send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Step{
		Step: &backendv1.Step{Name: name, State: state, Detail: detail},
	}})
}

// run tells of one step while do does it; do returns what is worth telling. The error names the step.
func (p progress) run(name string, do func() (string, error)) error {
	if err := p.why(); err != nil {
		return rterr.Wrap(rterr.Cancelled, name, err)
	}
	if err := p.step(name, backendv1.StepState_STEP_STATE_STARTED, ""); err != nil {
		return rterr.Wrap(rterr.Cancelled, name, err)
	}
	detail, err := do()
	if err != nil {
		_ = p.step(name, backendv1.StepState_STEP_STATE_FAILED, err.Error()) // The stream's own error says the same.
		failed := *rterr.From(rterr.Wrap(rterr.Internal, name, err))
		return failed.With("step", name)
	}
	return rterr.Wrap(rterr.Cancelled, name, p.step(name, backendv1.StepState_STEP_STATE_DONE, detail))
}
