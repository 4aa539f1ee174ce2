package service

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/backend"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Execute is agent.v1 Execute at the devbox's agent, through its tunnel.
func (s *Service) Execute(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	const op = "execute action"
	ctx := out.Context()
	if set, err := s.configured(op); err == nil && set.isBare() {
		return s.executeBare(req, out)
	}
	set, to, err := s.reach(ctx, op, req)
	if err != nil {
		return err
	}
	err = backend.Execute(ctx, to, req, out)
	return s.explain(ctx, set, req.GetHandle().GetSandboxId(), err)
}

// Interrupt is agent.v1 Interrupt at the devbox's agent.
func (s *Service) Interrupt(ctx context.Context, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	const op = "interrupt action"
	if set, err := s.configured(op); err == nil && set.isBare() {
		return s.interruptBare(ctx, req)
	}
	set, to, err := s.reach(ctx, op, req)
	if err != nil {
		return nil, err
	}
	answer, err := backend.Interrupt(ctx, to, req)
	return answer, s.explain(ctx, set, req.GetHandle().GetSandboxId(), err)
}

// Endpoint returns the address of the agent through the tunnel, and of every other port through the agent: so a server that listens
// on the devbox's loopback alone is reached, too.
func (s *Service) Endpoint(ctx context.Context, req *backendv1.EndpointRequest) (*backendv1.EndpointResponse, error) {
	const op = "endpoint"
	set, view, err := s.find(ctx, op, req)
	if err != nil {
		return nil, err
	}
	if req.GetPort() > 65535 {
		return nil, rterr.Invalid(op, "port", "%d is no port", req.GetPort())
	}
	if set.isBare() {
		return set.bareEndpoint(view, req.GetPort())
	}
	e, err := set.endpoint(view, set.portOf(view))
	if err != nil {
		return nil, rterr.Wrap(rterr.SandboxUnreachable, op, err)
	}
	if port := req.GetPort(); port > 0 {
		e.Path += strings.TrimSuffix(agent.PortsPath, "/") + "/" + strconv.Itoa(int(port))
	}
	return e, nil
}

// Pause suspends the devbox: its disk stays, what runs in it is over.
func (s *Service) Pause(ctx context.Context, req *backendv1.PauseRequest) (*backendv1.PauseResponse, error) {
	const op = "pause sandbox"
	set, id, err := s.named(op, req)
	if err != nil {
		return nil, err
	}
	leave, err := s.turns.take(ctx, id)
	if err != nil {
		return nil, err
	}
	defer leave()
	view, err := s.look(ctx, set, op, id)
	if err != nil {
		return nil, err
	}
	s.agents.drop(id)
	if err := s.suspend(ctx, set, view); err != nil {
		return nil, rterr.Wrap(rterr.Provider, op, err)
	}
	return &backendv1.PauseResponse{}, nil
}

func (s *Service) suspend(ctx context.Context, set *settings, view *api.DevboxView) error {
	switch view.Status {
	case api.DevboxStatusSuspended:
		return nil
	case api.DevboxStatusSuspending:
	default:
		err := set.api.Suspend(ctx, view.ID)
		if client.Status(err) == http.StatusBadRequest {
			// A try before this one may have suspended it: what it is now decides.
			now, lookErr := s.look(ctx, set, "", view.ID)
			if lookErr != nil {
				return lookErr
			}
			if now.Status != api.DevboxStatusSuspended && now.Status != api.DevboxStatusSuspending {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	_, err := s.until(ctx, set, view.ID, api.DevboxStatusSuspended)
	return err
}

// Resume wakes the devbox and starts its agent again.
func (s *Service) Resume(ctx context.Context, req *backendv1.ResumeRequest) (*backendv1.ResumeResponse, error) {
	const op = "resume sandbox"
	set, id, err := s.named(op, req)
	if err != nil {
		return nil, err
	}
	if req.GetAgentCredential() == "" {
		return nil, rterr.Invalid(op, "agent_credential", "is required")
	}
	leave, err := s.turns.take(ctx, id)
	if err != nil {
		return nil, err
	}
	defer leave()
	view, err := s.look(ctx, set, op, id)
	if err != nil {
		return nil, err
	}
	j := &job{s: s, set: set, spec: set.Settings, req: again(view, req), p: silent(ctx), view: view, attached: true}
	if err := j.bringUp(ctx); err != nil {
		return nil, rterr.Wrap(rterr.Provider, op, err)
	}
	h, err := set.handleOf(j.view)
	return &backendv1.ResumeResponse{Handle: h}, err
}

// again is the request that made a devbox, as far as its labels say; its environment is the devbox's own.
func again(view *api.DevboxView, req *backendv1.ResumeRequest) *backendv1.ConnectRequest {
	m := view.Metadata
	generation, _ := strconv.ParseUint(m[labelGeneration], 10, 64) // Somebody changed it: 0, unknown.
	return &backendv1.ConnectRequest{
		Handle: req.GetHandle(), AgentCredential: req.GetAgentCredential(), Lease: req.GetLease(), Generation: generation,
		RuntimeId: m[labelRuntime], Sid: m[labelSid], IntentId: m[labelIntent], Principal: m[labelPrincipal],
	}
}

// Close shuts the devbox down, or marks it as free for the next runtime of its sid. One that has ended is a success.
func (s *Service) Close(ctx context.Context, req *backendv1.CloseRequest) (*backendv1.CloseResponse, error) {
	const op = "close sandbox"
	set, id, err := s.named(op, req)
	if err != nil {
		return nil, err
	}
	leave, err := s.turns.take(ctx, id)
	if err != nil {
		return nil, err
	}
	defer leave()
	switch req.GetMode() {
	case backendv1.CloseMode_CLOSE_MODE_KEEP:
		err = s.keep(ctx, set, id)
	case backendv1.CloseMode_CLOSE_MODE_DELETE:
		s.agents.drop(id)
		err = s.end(ctx, set, id)
	default:
		return nil, rterr.Invalid(op, "mode", "is required")
	}
	if err != nil {
		return nil, rterr.Wrap(rterr.Provider, op, err)
	}
	return &backendv1.CloseResponse{}, nil
}

func (s *Service) keep(ctx context.Context, set *settings, id string) error {
	view, err := s.look(ctx, set, "", id)
	if rterr.Is(err, rterr.SandboxGone) {
		return nil
	}
	if err != nil {
		return err
	}
	view.Metadata[labelKept] = "true"
	err = set.api.SetMetadata(ctx, id, view.Metadata)
	if client.Missing(err) {
		return nil
	}
	return err
}

// end shuts a devbox down and returns when it has ended.
func (s *Service) end(ctx context.Context, set *settings, id string) error {
	view, err := set.api.Shutdown(ctx, id)
	if err != nil || view == nil || ended(view) {
		return err
	}
	if _, err := s.until(ctx, set, id); err != nil && !rterr.Is(err, rterr.SandboxGone) && !isEnd(err) {
		return err
	}
	return nil
}

// isEnd reports whether an error of until is the end that was waited for.
func isEnd(err error) bool {
	_, ended := rterr.From(err).Evidence["runloop_reason"]
	return ended && client.Status(err) == 0
}

// Usage tells what the devbox uses now, and the processor time that Runloop has counted.
func (s *Service) Usage(ctx context.Context, req *backendv1.UsageRequest) (*backendv1.UsageResponse, error) {
	const op = "usage of sandbox"
	set, view, err := s.find(ctx, op, req)
	if err != nil {
		return nil, err
	}
	counted, err := set.api.Usage(ctx, view.ID)
	if err != nil {
		return nil, gone(op, view.ID, err)
	}
	u := &backendv1.UsageResponse{Cpu: durationpb.New(time.Duration(counted.VcpuSeconds) * time.Second)}
	if view.Status != api.DevboxStatusRunning {
		return u, nil
	}
	out, err := set.api.Run(ctx, view.ID, usageScript)
	if err != nil {
		return nil, gone(op, view.ID, err)
	}
	now := said(out.Stdout)
	u.MemoryBytes, u.DiskBytes = number(now["memory"]), number(now["disk"])
	u.Pids = uint32(min(number(now["pids"]), 1<<31)) //nolint:gosec // bounded
	return u, nil
}

func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64) // 0: the devbox could not say.
	return n
}
