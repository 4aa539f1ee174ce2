package service

import (
	"context"

	"google.golang.org/grpc"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// labelRequest tells a snapshot of one call from every other.
const labelRequest = "openhands-rt-request"

// Snapshot takes a snapshot of the devbox's disk and returns when it is complete.
func (s *Service) Snapshot(ctx context.Context, req *backendv1.SnapshotRequest) (*backendv1.SnapshotResponse, error) {
	const op = "snapshot sandbox"
	set, view, err := s.find(ctx, op, req)
	if err != nil {
		return nil, err
	}
	requestID := client.NewRequestID()
	labels := map[string]string{labelOwner: set.owner, labelRuntime: view.Metadata[labelRuntime], labelRequest: requestID}
	taken, err := s.snapshot(ctx, set, view.ID, requestID, req.GetName(), labels)
	if err != nil {
		return nil, gone(op, view.ID, err)
	}
	for {
		now, err := set.api.SnapshotStatus(ctx, taken.ID)
		switch {
		case err != nil:
			return nil, rterr.Wrap(rterr.Provider, op, err)
		case now.Status == api.DevboxSnapshotAsyncStatusViewStatusComplete:
			return &backendv1.SnapshotResponse{SnapshotId: taken.ID}, nil
		case now.Status != api.DevboxSnapshotAsyncStatusViewStatusInProgress:
			e := rterr.New(rterr.Provider, op, "snapshot %s: %s", taken.ID, now.Status).With("devbox", view.ID)
			if now.ErrorMessage != nil {
				e = e.With("runloop_reason", *now.ErrorMessage)
			}
			return nil, e
		}
		if err := sleep(ctx, s.waits.snapshot, s.waits.snapshot); err != nil {
			return nil, rterr.Wrap(rterr.Cancelled, op, err)
		}
	}
}

// snapshot begins a snapshot once: where a try may have had its effect, it is looked for by its label first.
func (s *Service) snapshot(
	ctx context.Context, set *settings, id, requestID, name string, labels map[string]string,
) (*api.DevboxSnapshotView, error) {
	for tries := 0; ; tries++ {
		taken, err := set.api.Snapshot(ctx, requestID, id, name, labels)
		if err == nil || !client.Uncertain(err) || tries >= set.Retries {
			return taken, err
		}
		list, lookErr := set.api.Snapshots(ctx, id)
		if lookErr != nil {
			return nil, lookErr
		}
		for i := range list.Snapshots {
			if list.Snapshots[i].Metadata[labelRequest] == requestID {
				return &list.Snapshots[i], nil
			}
		}
		if err := sleep(ctx, set.RetryDelay<<min(tries, 8), set.RetryMax); err != nil {
			return nil, err
		}
	}
}

// Restore is Connect to a new devbox whose disk is that of a snapshot.
func (s *Service) Restore(req *backendv1.RestoreRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	const op = "restore snapshot"
	if _, err := s.configured(op); err != nil {
		return err
	}
	switch {
	case req.GetSnapshotId() == "":
		return rterr.Invalid(op, "snapshot_id", "is required")
	case req.GetConnect() == nil:
		return rterr.Invalid(op, "connect", "is required")
	case req.GetConnect().GetHandle() != nil:
		return rterr.Invalid(op, "connect.handle", "a snapshot makes a new sandbox")
	}
	return rterr.Wrap(rterr.Provider, op, s.connect(out.Context(), req.GetConnect(), req.GetSnapshotId(), progressOf(out)))
}
