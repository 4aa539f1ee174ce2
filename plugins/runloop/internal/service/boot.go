package service

import (
	"context"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// run waits until the devbox runs, and wakes it if it is suspended.
func (j *job) run(ctx context.Context) error {
	switch j.view.Status {
	case api.DevboxStatusRunning:
		return nil
	case api.DevboxStatusSuspended, api.DevboxStatusSuspending, api.DevboxStatusResuming:
		return j.p.run(stepResume, func() (string, error) {
			view, err := j.s.wake(ctx, j.set, j.view)
			if err == nil {
				j.view = view
			}
			return "", err
		})
	}
	return j.p.run(stepBoot, func() (string, error) {
		view, err := j.s.until(ctx, j.set, j.view.ID, api.DevboxStatusRunning)
		if err != nil {
			return "", j.s.lastWords(ctx, j.set, j.view.ID, err)
		}
		j.view = view
		return "", nil
	})
}

// until blocks until a devbox has one of the statuses. One that ends first, or is suspended meanwhile, is an error.
func (s *Service) until(ctx context.Context, set *settings, id string, want ...api.DevboxStatus) (*api.DevboxView, error) {
	statuses := append([]api.DevboxStatus{api.DevboxStatusFailure, api.DevboxStatusShutdown}, want...)
	for failed := 0; ; {
		view, err := set.api.Wait(ctx, id, client.DevboxHold, statuses...)
		switch {
		case client.Missing(err):
			return nil, client.Gone("", id, "there is no such devbox")
		case err != nil && client.Passing(err) && failed < set.Retries && ctx.Err() == nil:
			failed++
			if err := sleep(ctx, max(rterr.From(err).RetryAfter, set.RetryDelay<<min(failed-1, 8)), maxPause); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		case view == nil:
			failed = 0 // Not yet.
		case ended(view):
			return view, endedError(view)
		default:
			return view, nil
		}
	}
}

// endedError says why a devbox that was waited for has ended.
func endedError(view *api.DevboxView) *rterr.Error {
	reason := rterr.SandboxGone
	if view.Status == api.DevboxStatusFailure {
		reason = rterr.Provider
	}
	e := rterr.New(reason, "", "devbox %s ended: %s", view.ID, why(view)).With("devbox", view.ID).With("runloop_reason", why(view)).
		WithRemedy("see the devbox's log in Runloop's dashboard: launch commands, entrypoint, memory and disk are the usual causes")
	e.Retryable = false
	return e
}

// lastWords adds the end of a failed devbox's log to its error.
func (s *Service) lastWords(ctx context.Context, set *settings, id string, err error) error {
	e := *rterr.From(err)
	if e.Reason != rterr.Provider && e.Reason != rterr.SandboxGone {
		return e.With("devbox", id)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.waits.logs)
	defer cancel()
	logs, logErr := set.api.Logs(ctx, id)
	if logErr != nil || len(logs.Logs) == 0 {
		return e.With("devbox", id)
	}
	var lines []string
	for _, l := range logs.Logs[max(0, len(logs.Logs)-lastLines):] {
		lines = append(lines, logLine(&l))
	}
	return e.With("devbox", id).With("log", strings.Join(lines, "\n"))
}

// lastLines of a log are evidence.
const lastLines = 8

// wake resumes a devbox and waits until it runs.
func (s *Service) wake(ctx context.Context, set *settings, view *api.DevboxView) (*api.DevboxView, error) {
	id := view.ID
	s.agents.drop(id)
	for {
		if view.Status == api.DevboxStatusSuspending {
			next, err := s.until(ctx, set, id, api.DevboxStatusSuspended, api.DevboxStatusRunning)
			if err != nil {
				return nil, err
			}
			view = next
		}
		if view.Status != api.DevboxStatusSuspended {
			break
		}
		err := set.api.Resume(ctx, id)
		if err == nil {
			break
		}
		// A try before this one may have woken it: what it is now decides.
		next, lookErr := s.look(ctx, set, "", id)
		if lookErr != nil {
			return nil, lookErr
		}
		if next.Status == api.DevboxStatusSuspended {
			return nil, err
		}
		view = next
	}
	return s.until(ctx, set, id, api.DevboxStatusRunning)
}
