package service

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	agentclient "github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// job is one Connect on its way.
type job struct {
	s   *Service
	set *settings
	// spec is what this devbox shall be: the settings with the client's options over them.
	spec config.Settings
	req  *backendv1.ConnectRequest
	p    progress
	// view is the devbox as it was seen last; nil before there is one.
	view *api.DevboxView
	// mine: this Connect has to remove the devbox if it fails.
	mine bool
	// attached: it was there before. taken: it was kept by another runtime, whose agent is not ours to speak to.
	attached, taken bool
	// unsure: a devbox may have been made of which nothing is known.
	unsure bool
	// seen is what the devbox said of itself; nil before it was asked.
	seen map[string]string
	// agent is the way to the agent.
	agent *agentclient.Client
}

// Connect makes a devbox, finds the one that the same intent made before, or attaches to that of a handle.
func (s *Service) Connect(req *backendv1.ConnectRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	return s.connect(out.Context(), req, "", progressOf(out))
}

func (s *Service) connect(ctx context.Context, req *backendv1.ConnectRequest, snapshot string, p progress) error {
	op := "connect " + req.GetRuntimeId()
	set, err := s.configured(op)
	if err != nil {
		return err
	}
	spec, err := set.check(req, snapshot)
	if err != nil {
		return rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	j := &job{s: s, set: set, spec: spec, req: req, p: p}
	if req.GetHandle() != nil {
		return rterr.Wrap(rterr.Internal, op, j.attach(ctx))
	}
	return rterr.Wrap(rterr.Internal, op, j.make(ctx))
}

// check refuses what cannot be made, before anything is.
func (set *settings) check(req *backendv1.ConnectRequest, snapshot string) (config.Settings, error) {
	none := config.Settings{}
	switch {
	case req.GetAgentCredential() == "":
		return none, rterr.Invalid("", "agent_credential", "is required")
	case req.GetLease().AsDuration() < 0:
		return none, rterr.Invalid("", "lease", "is negative")
	case req.GetHandle() == nil && req.GetIntentId() == "":
		return none, rterr.Invalid("", "intent_id", "is required")
	case req.GetSpec().GetWorkspace() != "":
		return none, unsupported("spec.workspace", "a devbox cannot use a folder of this machine")
	}
	spec, err := set.Merge(req.GetSpec().GetOptions())
	if err != nil {
		return none, err
	}
	if err := limit(&spec, req.GetSpec().GetLimits()); err != nil {
		return none, err
	}
	if err := begin(&spec, req.GetSpec().GetImage(), snapshot); err != nil {
		return none, err
	}
	if set.Agent == config.AgentOurs && set.programs[spec.Architecture] == nil {
		return none, rterr.Invalid("", "spec.options.architecture", "there is no agent for %s", spec.Architecture).
			WithRemedy("put openhands-rt-agent-" + spec.Architecture + " beside the plugin")
	}
	return spec, nil
}

func unsupported(field, detail string) *rterr.Error {
	return rterr.New(rterr.Unsupported, "", "%s", detail).WithField(field).WithRan(rterr.RanNo)
}

// attach connects to the devbox of the handle, and leaves it as it was if that fails.
func (j *job) attach(ctx context.Context) error {
	id := j.req.GetHandle().GetSandboxId()
	if err := checkHandle(j.req.GetHandle()); err != nil {
		return err
	}
	leave, err := j.s.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	if err := j.p.status(statusStarting, ""); err != nil {
		return err
	}
	j.attached = true
	err = j.p.run(stepFind, func() (string, error) {
		j.view, err = j.s.look(ctx, j.set, "attach", id)
		return id, err
	})
	if err != nil {
		return err
	}
	return j.bringUp(ctx)
}

// look returns a devbox that has not ended.
func (s *Service) look(ctx context.Context, set *settings, op, id string) (*api.DevboxView, error) {
	view, err := set.api.Retrieve(ctx, id)
	if client.Missing(err) {
		return nil, client.Gone(op, id, "there is no such devbox")
	}
	if err != nil {
		return nil, rterr.Wrap(rterr.Provider, op, err)
	}
	if ended(view) {
		s.agents.drop(id)
		return view, client.Gone(op, id, why(view))
	}
	return view, nil
}

// bringUp leads a devbox that exists to READY, from wherever it is.
func (j *job) bringUp(ctx context.Context) error {
	if err := j.run(ctx); err != nil {
		return err
	}
	if err := j.p.status(statusStarted, j.view.ID); err != nil {
		return err
	}
	if err := j.serve(ctx); err != nil {
		return err
	}
	if err := j.p.status(statusReady, ""); err != nil {
		return err
	}
	return j.connected()
}

// lease is how long the devbox lives without a renewal.
func (j *job) lease() time.Duration {
	if lease := j.req.GetLease().AsDuration(); lease > 0 {
		return lease
	}
	return j.set.LeaseFor
}

// connected ends the stream.
func (j *job) connected() error {
	h, err := j.set.handleOf(j.view)
	if err != nil {
		return err
	}
	c := &backendv1.Connected{
		Handle: h, Capabilities: j.set.capabilities(), Attached: j.attached,
		Workspace: j.seen["workspace"], Home: j.seen["home"], Username: j.seen["user"],
	}
	c.Capabilities.WorkspaceMount = c.Capabilities.WorkspaceMount && c.GetWorkspace() == mountedWorkspace
	if err := j.p.send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Connected{Connected: c}}); err != nil {
		return rterr.Wrap(rterr.Cancelled, "", err)
	}
	return rterr.Wrap(rterr.Cancelled, "", j.p.why())
}

// mountedWorkspace is the workspace of a sandbox that has one of its own there.
const mountedWorkspace = "/workspace"
