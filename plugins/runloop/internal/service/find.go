package service

import (
	"context"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	agentclient "github.com/openhands-rt/openhands-rt/sdk/agent/client"
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

// named returns the settings and the devbox that a request names; it does not look whether there is such a devbox.
func (s *Service) named(op string, req handled) (*settings, string, error) {
	set, err := s.configured(op)
	if err != nil {
		return nil, "", err
	}
	if err := checkHandle(req.GetHandle()); err != nil {
		return nil, "", rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	return set, req.GetHandle().GetSandboxId(), nil
}

// find is named and the devbox itself. SandboxGone if it has ended.
func (s *Service) find(ctx context.Context, op string, req handled) (*settings, *api.DevboxView, error) {
	set, id, err := s.named(op, req)
	if err != nil {
		return nil, nil, err
	}
	view, err := s.look(ctx, set, op, id)
	return set, view, err
}

// agentOf returns the way to the agent of a devbox that was looked at.
func (s *Service) agentOf(set *settings, view *api.DevboxView, credential string) (*agentclient.Client, error) {
	if c := s.agents.get(view.ID, credential); c != nil {
		return c, nil
	}
	if view.Status != api.DevboxStatusRunning {
		return nil, notRunning(view)
	}
	c, err := set.dial(view, credential)
	if err != nil {
		return nil, err
	}
	s.agents.put(view.ID, credential, c)
	return c, nil
}

func notRunning(view *api.DevboxView) *rterr.Error {
	reason := rterr.SandboxUnreachable
	if phaseOf(view) == backendv1.Phase_PHASE_PAUSED {
		reason = rterr.SandboxPaused
	}
	return rterr.New(reason, "", "devbox %s is %s", view.ID, view.Status).With("devbox", view.ID).WithRan(rterr.RanNo)
}

// reach returns the way to the agent that a request is for: at once where it is known, else the devbox is looked at first.
func (s *Service) reach(ctx context.Context, op string, req credentialed) (*settings, *agentclient.Client, error) {
	set, id, err := s.named(op, req)
	if err != nil {
		return nil, nil, err
	}
	if req.GetAgentCredential() == "" {
		return nil, nil, rterr.Invalid(op, "agent_credential", "is required")
	}
	if c := s.agents.get(id, req.GetAgentCredential()); c != nil {
		return set, c, nil
	}
	view, err := s.look(ctx, set, op, id)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.agentOf(set, view, req.GetAgentCredential())
	return set, c, rterr.Wrap(rterr.SandboxUnreachable, op, err)
}

// explain says what became of the devbox whose agent did not answer; other errors stay as they are.
func (s *Service) explain(ctx context.Context, set *settings, id string, err error) error {
	if err == nil || ctx.Err() != nil ||
		!rterr.Is(err, rterr.Network, rterr.Unavailable, rterr.SandboxUnreachable, rterr.Unsupported, rterr.Internal, rterr.Provider) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.waits.info)
	defer cancel()
	view, lookErr := s.look(ctx, set, "", id)
	e := *rterr.From(err)
	var now *rterr.Error
	switch {
	case lookErr != nil && rterr.Is(lookErr, rterr.SandboxGone):
		now = rterr.From(lookErr)
	case lookErr != nil:
		return err
	case view.Status != api.DevboxStatusRunning:
		s.agents.drop(id)
		now = notRunning(view)
	default:
		now = rterr.New(rterr.SandboxUnreachable, "", "%s", e.Detail).With("devbox", id)
	}
	told := *now
	told.Op, told.Ran = e.Op, e.Ran
	return told.WithCause(err)
}
