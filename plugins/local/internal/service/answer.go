package service

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/backend"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func duration(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// Execute is agent.v1 Execute through the plugin.
func (s *Service) Execute(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	_, _, _, c, err := s.reach("execute", req)
	if err != nil {
		return err
	}
	return backend.Execute(out.Context(), c, req, out)
}

// Interrupt is agent.v1 Interrupt through the plugin.
func (s *Service) Interrupt(ctx context.Context, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	_, _, _, c, err := s.reach("interrupt", req)
	if err != nil {
		return nil, err
	}
	return backend.Interrupt(ctx, c, req)
}

// Pause freezes a sandbox's tree; its agent goes on, so the lease is renewed as ever.
func (s *Service) Pause(ctx context.Context, req *backendv1.PauseRequest) (*backendv1.PauseResponse, error) {
	const op = "pause sandbox"
	leave, err := s.turn(ctx, op, req)
	if err != nil {
		return nil, err
	}
	defer leave()
	set, m, l, c, err := s.reach(op, req)
	if err != nil {
		return nil, err
	}
	if _, err := c.Freeze(ctx, &agentv1.FreezeRequest{}); err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	m.Paused = true
	if err := set.root.Write(m); err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	l.setPaused(true)
	return &backendv1.PauseResponse{}, nil
}

// Resume lets a paused sandbox go on.
func (s *Service) Resume(ctx context.Context, req *backendv1.ResumeRequest) (*backendv1.ResumeResponse, error) {
	const op = "resume sandbox"
	leave, err := s.turn(ctx, op, req)
	if err != nil {
		return nil, err
	}
	defer leave()
	set, m, l, c, err := s.reach(op, req)
	if err != nil {
		return nil, err
	}
	if err := s.thaw(ctx, set, &m, l, c); err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	if _, err := s.renew(ctx, set, &m, c, req.GetLease().AsDuration()); err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	h, err := handleOf(m)
	return &backendv1.ResumeResponse{Handle: h}, err
}

// turn takes the turn of a handle's sandbox.
func (s *Service) turn(ctx context.Context, op string, req handled) (leave func(), err error) {
	if _, err := s.configured(op); err != nil {
		return nil, err
	}
	if _, err := decodeHandle(req.GetHandle()); err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	return s.turns.take(ctx, req.GetHandle().GetSandboxId())
}

// Renew sets the end of a sandbox's lease.
func (s *Service) Renew(ctx context.Context, req *backendv1.RenewRequest) (*backendv1.RenewResponse, error) {
	const op = "renew lease"
	leave, err := s.turn(ctx, op, req)
	if err != nil {
		return nil, err
	}
	defer leave()
	if req.GetLease().AsDuration() <= 0 {
		return nil, rterr.Invalid(op, "lease", "must be positive; Close ends a sandbox")
	}
	set, m, _, c, err := s.reach(op, req)
	if err != nil {
		return nil, err
	}
	until, err := s.renew(ctx, set, &m, c, req.GetLease().AsDuration())
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	return &backendv1.RenewResponse{LeaseUntil: timestamppb.New(until)}, nil
}

// Endpoint returns the agent's socket, and the agent's path to a port.
func (s *Service) Endpoint(_ context.Context, req *backendv1.EndpointRequest) (*backendv1.EndpointResponse, error) {
	const op = "find endpoint"
	const lastPort = 65535
	_, m, _, err := s.find(op, req)
	if err != nil {
		return nil, err
	}
	if req.GetPort() > lastPort {
		return nil, rterr.Invalid(op, "port", "%d is no port", req.GetPort())
	}
	answer := &backendv1.EndpointResponse{Address: "unix://" + m.Socket}
	if req.GetPort() > 0 {
		answer.Path = fmt.Sprintf("/ports/%d", req.GetPort())
	}
	return answer, nil
}

// VSCodeURL is refused: there is no VSCode server in these sandboxes.
func (s *Service) VSCodeURL(context.Context, *backendv1.VSCodeURLRequest) (*backendv1.VSCodeURLResponse, error) {
	const op = "find vscode"
	if _, err := s.configured(op); err != nil {
		return nil, err
	}
	return nil, rterr.New(rterr.Unsupported, op, "local sandboxes have no VSCode server").WithRan(rterr.RanNo)
}

// Usage reads the cgroups' counters.
func (s *Service) Usage(_ context.Context, req *backendv1.UsageRequest) (*backendv1.UsageResponse, error) {
	set, m, _, err := s.find("read usage", req)
	if err != nil {
		return nil, err
	}
	if set.placement.V2 == "" {
		return nil, rterr.New(rterr.Unsupported, "read usage", "there is no cgroup to read it from").WithRan(rterr.RanNo)
	}
	u := set.placement.Usage(m.Cgroup)
	return &backendv1.UsageResponse{MemoryBytes: u.MemoryBytes, Cpu: duration(time.Duration(u.CPUMicros) * time.Microsecond), Pids: u.Pids}, nil
}

// Diagnose looks at what sandboxes need.
func (s *Service) Diagnose(context.Context, *backendv1.DiagnoseRequest) (*backendv1.DiagnoseResponse, error) {
	set, err := s.configured("diagnose")
	if err != nil {
		return nil, err
	}
	check := func(name string, err error, remedy string) *backendv1.Check {
		if err == nil {
			return &backendv1.Check{Name: name, Ok: true}
		}
		return &backendv1.Check{Name: name, Detail: err.Error(), Remedy: remedy}
	}
	_, agentErr := os.Stat(set.AgentBinary)
	checks := []*backendv1.Check{
		check("agent binary", agentErr, "put openhands-rt beside the plugin, or set agent_binary"),
		check("state folder", unix.Access(filepath.Dir(set.root.Dir()), unix.W_OK), "make it writable for the daemon's user"),
	}
	if !set.mounted {
		checks = append(checks, check("mount namespace", fmt.Errorf("%s", set.why), "allow mount namespaces to the daemon's user"))
	}
	for _, note := range set.notes {
		checks = append(checks, check("cgroups", fmt.Errorf("%s", note), "give the daemon's user a writable cgroup"))
	}
	return &backendv1.DiagnoseResponse{Checks: checks}, nil
}
