package service

import (
	"context"
	"maps"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	agentclient "github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Renew begins the lease of a devbox anew: at its agent, in the devbox itself, at Runloop, and in its labels. That of a suspended
// devbox begins when it is resumed.
func (s *Service) Renew(ctx context.Context, req *backendv1.RenewRequest) (*backendv1.RenewResponse, error) {
	const op = "renew lease"
	lease := req.GetLease().AsDuration()
	if lease <= 0 {
		return nil, rterr.Invalid(op, "lease", "must be positive")
	}
	set, id, err := s.named(op, req)
	if err != nil {
		return nil, err
	}
	view, err := s.look(ctx, set, op, id)
	if err != nil {
		return nil, err
	}
	until := leaseUntil(lease)
	if view.Status == api.DevboxStatusRunning {
		var agent *agentclient.Client
		if !set.isBare() {
			if agent, err = s.agentOf(set, view, req.GetAgentCredential()); err != nil {
				return nil, rterr.Wrap(rterr.SandboxUnreachable, op, err)
			}
		}
		if err := s.renewAll(ctx, set, view, agent, lease, true); err != nil {
			return nil, rterr.Wrap(rterr.Provider, op, s.explain(ctx, set, id, err))
		}
	}
	return &backendv1.RenewResponse{LeaseUntil: timestamppb.New(until)}, nil
}

// renewAll tells everybody who ends a devbox of its lease. The labels are for those who list it, and already right for a devbox that
// was just made.
func (s *Service) renewAll(
	ctx context.Context, set *settings, view *api.DevboxView, agent *agentclient.Client, lease time.Duration, label bool,
) error {
	group, ctx := errgroup.WithContext(ctx)
	if agent != nil {
		group.Go(func() error { return tellAgent(ctx, set, agent, lease) })
	}
	group.Go(func() error {
		seconds := int64((lease + time.Second - 1) / time.Second)
		return set.api.WriteFile(ctx, view.ID, leaseFile, strconv.FormatInt(seconds, 10)+"\n")
	})
	if label {
		group.Go(func() error { return set.api.KeepAlive(ctx, view.ID) })
		group.Go(func() error {
			m := maps.Clone(view.Metadata)
			delete(m, labelKept)
			m[labelLeaseUntil] = leaseUntil(lease).UTC().Format(time.RFC3339Nano)
			return set.api.SetMetadata(ctx, view.ID, m)
		})
	}
	return group.Wait()
}

// tellAgent begins the lease at the agent. A tunnel may be cut at any time: the call is harmless to repeat.
func tellAgent(ctx context.Context, set *settings, agent *agentclient.Client, lease time.Duration) error {
	for tries := 0; ; tries++ {
		_, err := agent.RenewLease(ctx, &agentv1.RenewLeaseRequest{Lease: durationpb.New(lease)})
		if err == nil || tries >= set.Retries || !rterr.Is(err, rterr.Network, rterr.Unavailable) {
			return err
		}
		if err := sleep(ctx, set.RetryDelay<<min(tries, 8), set.RetryMax); err != nil {
			return err
		}
	}
}
