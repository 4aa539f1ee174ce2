package service

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// WatchStatus tells the phase at once, at each change, and every 15 s. It follows the devbox by long polls, and the account's
// evictions: one that is announced is told as a message of the phase. It ends with PHASE_GONE when the devbox has ended.
func (s *Service) WatchStatus(req *backendv1.WatchStatusRequest, out grpc.ServerStreamingServer[backendv1.WatchStatusResponse]) error {
	const op = "watch sandbox"
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	set, id, err := s.named(op, req)
	if err != nil {
		return err
	}
	view, err := s.look(ctx, set, op, id)
	if rterr.Is(err, rterr.SandboxGone) {
		return sendPhase(out, backendv1.Phase_PHASE_GONE, rterr.From(err).Detail)
	}
	if err != nil {
		return err
	}
	w := &watch{s: s, op: op, id: id, out: out, changes: make(chan change, 1)}
	go w.follow(ctx, view)
	return w.tell(ctx, view)
}

// watch is one WatchStatus.
type watch struct {
	s       *Service
	op, id  string
	out     grpc.ServerStreamingServer[backendv1.WatchStatusResponse]
	changes chan change
}

// change is what follow found out.
type change struct {
	view *api.DevboxView
	err  error
}

// tell sends what there is to tell until the devbox has ended.
func (w *watch) tell(ctx context.Context, view *api.DevboxView) error {
	tick := time.NewTicker(w.s.waits.heartbeat)
	defer tick.Stop()
	for {
		deadline, evictions := w.s.evicted.of(w.s, w.id)
		phase, message := phaseOf(view), string(view.Status)
		switch {
		case phase == backendv1.Phase_PHASE_GONE:
			message = why(view)
		case !deadline.IsZero() && phase == backendv1.Phase_PHASE_RUNNING:
			message = "Runloop evicts the devbox: it is suspended at " + deadline.UTC().Format(time.RFC3339)
		}
		if err := sendPhase(w.out, phase, message); err != nil {
			return err
		}
		if phase == backendv1.Phase_PHASE_GONE {
			w.s.agents.drop(w.id)
			return nil
		}
		select {
		case c := <-w.changes:
			if rterr.Is(c.err, rterr.SandboxGone) {
				return sendPhase(w.out, backendv1.Phase_PHASE_GONE, rterr.From(c.err).Detail)
			}
			if c.err != nil {
				return rterr.Wrap(rterr.Provider, w.op, c.err)
			}
			view = c.view
		case <-evictions:
		case <-tick.C:
		case <-ctx.Done():
			return rterr.Wrap(rterr.Cancelled, w.op, context.Cause(ctx))
		case <-w.s.ctx.Done():
			return rterr.New(rterr.Unavailable, w.op, "the plugin is stopping")
		}
	}
}

// follow waits for each change of the devbox's status. It ends with ctx, with the devbox, or with an error that does not pass.
func (w *watch) follow(ctx context.Context, view *api.DevboxView) {
	for ctx.Err() == nil {
		next, err := w.next(ctx, view.Status)
		select {
		case w.changes <- change{next, err}:
		case <-ctx.Done():
			return
		}
		if err != nil || ended(next) {
			return
		}
		view = next
	}
}

// next waits until the devbox has another status. The settings are read for each poll: their key may be a new one.
func (w *watch) next(ctx context.Context, now api.DevboxStatus) (*api.DevboxView, error) {
	for failed := 0; ; {
		set, err := w.s.configured(w.op)
		if err != nil {
			return nil, err
		}
		view, err := set.api.Wait(ctx, w.id, client.DevboxHold, others(now)...)
		switch {
		case client.Missing(err):
			return nil, client.Gone(w.op, w.id, "there is no such devbox")
		case err != nil && failed < set.Retries && ctx.Err() == nil && (client.Passing(err) || rterr.Is(err, rterr.Unauthenticated)):
			failed++
			if err := sleep(ctx, max(rterr.From(err).RetryAfter, set.RetryDelay<<min(failed-1, 8)), maxPause); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		case view != nil:
			return view, nil
		default:
			failed = 0
		}
	}
}

// others are all statuses but one.
func others(now api.DevboxStatus) []api.DevboxStatus {
	var out []api.DevboxStatus
	for _, status := range []api.DevboxStatus{
		api.DevboxStatusRunning, api.DevboxStatusSuspending, api.DevboxStatusSuspended, api.DevboxStatusResuming,
		api.DevboxStatusFailure, api.DevboxStatusShutdown,
	} {
		if status != now {
			out = append(out, status)
		}
	}
	return out
}

func sendPhase(out grpc.ServerStreamingServer[backendv1.WatchStatusResponse], phase backendv1.Phase, message string) error {
	return out.Send(&backendv1.WatchStatusResponse{Phase: phase, Message: message, At: timestamppb.Now()})
}
