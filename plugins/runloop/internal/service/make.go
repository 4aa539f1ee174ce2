package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// make finds the devbox of an intent, takes a kept one of the sid, or makes one. What it made is gone again if it fails.
func (j *job) make(ctx context.Context) error {
	leave, err := j.s.turns.take(ctx, "intent "+j.req.GetIntentId())
	if err != nil {
		return err
	}
	defer leave()
	if err := j.p.status(statusStarting, ""); err != nil {
		return err
	}
	err = j.p.run(stepFind, func() (string, error) { return j.find(ctx) })
	if err == nil && j.view == nil {
		err = j.begin(ctx)
	}
	if err == nil {
		err = j.bringUp(ctx)
	}
	if err != nil {
		return errors.Join(err, j.undo(ctx))
	}
	return nil
}

// find looks for a devbox that this intent has made already, and for one of the sid that was kept.
func (j *job) find(ctx context.Context) (string, error) {
	kept := j.set.Attach && j.req.GetSid() != ""
	group, groupCtx := errgroup.WithContext(ctx)
	var recent, stay []api.DevboxView
	group.Go(func() error {
		page, err := j.set.api.List(groupCtx, "", "", recentPage)
		if err == nil {
			recent = page.Devboxes
		}
		return err
	})
	if kept {
		group.Go(func() (err error) {
			stay, err = j.s.scan(groupCtx, j.set, api.DevboxStatusRunning, api.DevboxStatusSuspended)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", rterr.Wrap(rterr.Provider, "", err)
	}
	for i := range recent {
		if view := &recent[i]; j.isMine(view) {
			j.view, j.attached = view, true
			// One that was brought so far may be in use by now: a passing failure must not end it.
			j.mine = view.Status != api.DevboxStatusRunning || view.Tunnel == nil
			return view.ID, nil
		}
	}
	for i := range stay {
		if view := &stay[i]; j.mayTake(view) {
			j.view, j.attached, j.taken = view, true, true
			return view.ID + ", kept by an earlier runtime of this sid", nil
		}
	}
	return "none", nil
}

// recentPage is the number of newest devboxes among which an intent's is looked for.
const recentPage = 500

func (j *job) isMine(view *api.DevboxView) bool {
	m := view.Metadata
	return m[labelOwner] == j.set.owner && m[labelIntent] == j.req.GetIntentId() && !ended(view)
}

// mayTake: the devbox was let go of by a runtime of the same sid and principal. In another mode it would not serve.
func (j *job) mayTake(view *api.DevboxView) bool {
	m := view.Metadata
	return m[labelOwner] == j.set.owner && m[labelKept] == "true" && m[labelSid] == j.req.GetSid() &&
		m[labelPrincipal] == j.req.GetPrincipal() && m[labelAgent] == j.set.Agent && !ended(view)
}

// begin builds what must be built, and makes the devbox.
func (j *job) begin(ctx context.Context) error {
	if err := j.build(ctx); err != nil {
		return err
	}
	return j.p.run(stepDevbox, func() (string, error) {
		j.mine = true
		if err := j.create(ctx); err != nil {
			return "", err
		}
		return j.view.ID, nil
	})
}

// create asks for the devbox. Where it cannot be known whether the request had its effect, the devbox is looked for by its intent
// before it is asked for again, under the same request id.
func (j *job) create(ctx context.Context) error {
	params, err := j.parameters()
	if err != nil {
		return err
	}
	requestID := client.NewRequestID()
	for tries := 0; ; tries++ {
		view, err := j.set.api.Create(ctx, requestID, params)
		if err == nil {
			j.view = view
			return j.only(ctx)
		}
		if !client.Uncertain(err) {
			return err
		}
		j.unsure = true
		found, lookErr := j.made(ctx)
		if lookErr != nil {
			return errors.Join(err, lookErr)
		}
		if len(found) > 0 {
			j.view = &found[0]
			return j.only(ctx)
		}
		if tries >= j.set.Retries {
			e := *rterr.From(err)
			return e.With("attempts", fmt.Sprint(tries+1))
		}
		if err := sleep(ctx, j.set.RetryDelay<<min(tries, 8), j.set.RetryMax); err != nil {
			return err
		}
	}
}

// only ends every other devbox of this intent, where a try may have made one.
func (j *job) only(ctx context.Context) error {
	if !j.unsure {
		return nil
	}
	found, err := j.made(ctx)
	if err != nil {
		return err
	}
	for i := range found {
		if found[i].ID == j.view.ID {
			continue
		}
		if err := j.s.end(ctx, j.set, found[i].ID); err != nil {
			return err
		}
	}
	j.unsure = false
	return nil
}

// made returns the devboxes of this intent, the oldest first.
func (j *job) made(ctx context.Context) ([]api.DevboxView, error) {
	page, err := j.set.api.List(ctx, "", "", recentPage)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(page.Devboxes, func(v api.DevboxView) bool { return !j.isMine(&v) })
	slices.SortFunc(found, func(a, b api.DevboxView) int { return int(a.CreateTimeMs - b.CreateTimeMs) })
	return found, nil
}

// undo removes what this Connect made. The caller is gone or has its error, so this has a limit of its own.
func (j *job) undo(ctx context.Context) error {
	if !j.mine {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.s.waits.clean)
	defer cancel()
	if j.agent != nil {
		j.s.agents.drop(j.view.ID)
	}
	var errs []error
	if j.view != nil {
		errs = append(errs, j.s.end(ctx, j.set, j.view.ID))
	}
	if j.unsure {
		found, err := j.made(ctx)
		errs = append(errs, err)
		for i := range found {
			errs = append(errs, j.s.end(ctx, j.set, found[i].ID))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the devbox could not be removed, it ends with its keep-alive: %w", err)
	}
	return nil
}

// sleep waits for an event that nobody tells; at most most.
func sleep(ctx context.Context, d, most time.Duration) error {
	timer := time.NewTimer(min(d, most))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return rterr.Wrap(rterr.Cancelled, "", context.Cause(ctx))
	}
}
