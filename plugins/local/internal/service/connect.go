package service

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// Connect makes a sandbox, finds the one that the same intent made before, or attaches to that of a handle.
func (s *Service) Connect(req *backendv1.ConnectRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	op := "connect " + req.GetRuntimeId()
	set, err := s.configured(op)
	if err != nil {
		return err
	}
	if req.GetAgentCredential() == "" {
		return rterr.Invalid(op, "agent_credential", "is required")
	}
	if req.GetLease().AsDuration() < 0 {
		return rterr.Invalid(op, "lease", "is negative")
	}
	p := progress{out}
	if req.GetHandle() != nil {
		return rterr.Wrap(rterr.Internal, op, s.attach(set, req, p))
	}
	return rterr.Wrap(rterr.Internal, op, s.make(set, req, p))
}

// attach connects to the sandbox of the handle, and leaves it as it was if that fails.
func (s *Service) attach(set *settings, req *backendv1.ConnectRequest, p progress) error {
	ctx := p.Context()
	o, err := decodeHandle(req.GetHandle())
	if err != nil {
		return err
	}
	leave, err := s.turns.take(ctx, req.GetHandle().GetSandboxId())
	if err != nil {
		return err
	}
	defer leave()
	if err := p.status(backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME); err != nil {
		return err
	}
	var m folder.Meta
	err = p.run(stepAgent, func() (string, error) {
		m, err = s.identify(ctx, set, req, o)
		return "", err
	})
	if err != nil {
		return err
	}
	return s.welcome(ctx, set, req, m, p)
}

// identify finds the sandbox of a handle and makes sure that it is that very one.
func (s *Service) identify(ctx context.Context, set *settings, req *backendv1.ConnectRequest, o opaque) (folder.Meta, error) {
	id := req.GetHandle().GetSandboxId()
	m, err := set.root.Read(id)
	if rterr.Is(err, rterr.NotFound) {
		return m, rterr.New(rterr.SandboxGone, "attach", "there is no sandbox %s", id)
	}
	if err != nil {
		return m, err
	}
	if m.Nonce != o.Nonce || m.PID != o.PID || m.StartTime != o.StartTime || m.BootID != o.BootID {
		return m, rterr.New(rterr.Integrity, "attach", "another sandbox is in the place of %s", id)
	}
	return m, s.confirm(ctx, m, req.GetAgentCredential())
}

// confirm asks the agent at a record's address who it is. SandboxGone, SandboxUnreachable, Unauthenticated or Integrity if it
// is not, or cannot be seen to be, the one of the record.
func (s *Service) confirm(ctx context.Context, m folder.Meta, credential string) error {
	const op = "attach"
	c, err := client.New(client.Config{Address: "unix://" + m.Socket, Credential: credential})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, infoWait)
	defer cancel()
	info, err := c.Info(ctx)
	switch {
	case err == nil && (info.GetNonce() != m.Nonce || info.GetSandboxId() != m.SandboxID || info.GetPid() != int64(m.PID)):
		return rterr.New(rterr.Integrity, op, "another agent answers in the place of %s", m.SandboxID).With("socket", m.Socket)
	case err == nil && alive(m):
		return nil
	case err == nil || (rterr.Is(err, rterr.Unauthenticated) && !alive(m)):
		return rterr.New(rterr.Integrity, op, "the agent of %s is dead, and yet somebody answers", m.SandboxID).With("socket", m.Socket)
	case rterr.Is(err, rterr.Unauthenticated, rterr.Cancelled):
		return rterr.Wrap(rterr.Internal, op, err)
	case alive(m):
		return rterr.New(rterr.SandboxUnreachable, op, "the agent of %s runs but does not answer", m.SandboxID).WithCause(err)
	default:
		return rterr.New(rterr.SandboxGone, op, "the agent of %s has ended", m.SandboxID).WithCause(err)
	}
}

// welcome ends a Connect to a sandbox that was there: it goes on if it was paused, and its lease begins anew.
func (s *Service) welcome(ctx context.Context, set *settings, req *backendv1.ConnectRequest, m folder.Meta, p progress) error {
	if err := p.status(backendv1.RuntimeStatus_RUNTIME_STATUS_RUNTIME_STARTED); err != nil {
		return err
	}
	l := s.watch(set, m)
	err := p.run(stepReady, func() (string, error) {
		c, err := l.agent(m.Socket, req.GetAgentCredential())
		if err != nil {
			return "", err
		}
		if err := s.thaw(ctx, set, &m, l, c); err != nil {
			return "", err
		}
		_, err = s.renew(ctx, set, &m, c, req.GetLease().AsDuration())
		return "", err
	})
	if err != nil {
		return err
	}
	if err := p.status(backendv1.RuntimeStatus_RUNTIME_STATUS_READY); err != nil {
		return err
	}
	return p.connected(set, m, true)
}

// thaw lets a sandbox go on. m is changed, and written if it was paused. The caller has its turn.
func (s *Service) thaw(ctx context.Context, set *settings, m *folder.Meta, l *live, c *client.Client) error {
	if _, err := c.Thaw(ctx, &agentv1.ThawRequest{}); err != nil {
		return err
	}
	if m.Paused {
		m.Paused = false
		if err := set.root.Write(*m); err != nil {
			return err
		}
	}
	l.setPaused(false)
	return nil
}

// renew moves the lease's end; zero means the configured lease. The caller has the sandbox's turn.
func (s *Service) renew(ctx context.Context, set *settings, m *folder.Meta, c *client.Client, lease time.Duration) (time.Time, error) {
	if lease == 0 {
		lease = set.Lease
	}
	answer, err := c.RenewLease(ctx, &agentv1.RenewLeaseRequest{Lease: duration(lease)})
	if err != nil {
		return time.Time{}, err
	}
	m.LeaseUntil = answer.GetLeaseUntil().AsTime()
	return m.LeaseUntil, set.root.Write(*m)
}

// destroy ends a sandbox and removes everything of it but a given workspace. c is nil where the agent cannot be asked. The
// caller has the sandbox's turn and lock. Safe to repeat after an error.
func (s *Service) destroy(ctx context.Context, set *settings, m folder.Meta, c *client.Client) error {
	if c != nil && alive(m) {
		s.shutDown(ctx, m, c)
	}
	if err := s.kill(ctx, set, m); err != nil {
		return err
	}
	if err := set.placement.Remove(m.Cgroup); err != nil {
		return rterr.Wrap(rterr.Internal, "remove sandbox", err)
	}
	return set.root.Remove(m.SandboxID)
}

// shutDown asks the agent to end its tree and itself. What it does not do, kill does.
func (s *Service) shutDown(ctx context.Context, m folder.Meta, c *client.Client) {
	ask, cancel := context.WithTimeout(ctx, shutdownWait)
	defer cancel()
	if _, err := c.Shutdown(ask, &agentv1.ShutdownRequest{}); err != nil {
		s.log.Warn("an agent did not shut down, it is killed", "runtime", m.RuntimeID, "sid", m.SID, "error", err)
		return
	}
	wait, stop := context.WithTimeout(ctx, exitWait)
	defer stop()
	if err := sandbox.WaitProcess(wait, m.PID, m.StartTime); err != nil {
		s.log.Warn("an agent did not end after its shutdown, it is killed", "runtime", m.RuntimeID, "sid", m.SID, "error", err)
	}
}

// kill ends every process that may be left.
func (s *Service) kill(ctx context.Context, set *settings, m folder.Meta) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
	defer cancel()
	var errs []error
	if set.placement.V2 == "" {
		if alive(m) {
			_, err := sandbox.KillWithDescendants(ctx, m.PID, m.StartTime)
			errs = append(errs, err)
		}
		_, err := sandbox.KillMarked(ctx, marker(m))
		errs = append(errs, err)
	} else {
		errs = append(errs, set.placement.Kill(m.Cgroup))
	}
	if alive(m) { // Not in a cgroup after all.
		_, err := sandbox.KillWithDescendants(ctx, m.PID, m.StartTime)
		errs = append(errs, err)
	}
	return rterr.Wrap(rterr.Internal, "kill sandbox", errors.Join(errs...))
}

// sandboxVariable is in the environment of everything in a sandbox.
const sandboxVariable = "OPENHANDS_RT_SANDBOX"

func marker(m folder.Meta) string { return sandboxVariable + "=" + m.SandboxID }
