package service

import (
	"context"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// build waits for the blueprint, and has it built where there is none and a Dockerfile is configured. A blueprint that is built
// already costs one look.
func (j *job) build(ctx context.Context) error {
	if j.spec.BlueprintID == "" && j.spec.Dockerfile == "" {
		return nil // None is needed, or its name is for the API to look up.
	}
	view, err := j.blueprint(ctx)
	if err != nil {
		return rterr.Wrap(rterr.Provider, stepBuild, err)
	}
	if view != nil && view.Status == api.BlueprintViewStatusBuildComplete {
		j.spec.BlueprintID, j.spec.BlueprintName = view.ID, ""
		return nil
	}
	if err := j.p.status(statusBuilding, j.spec.BlueprintID+j.spec.BlueprintName); err != nil {
		return err
	}
	err = j.p.run(stepBuild, func() (string, error) {
		if view == nil {
			if view, err = j.set.api.Build(ctx, j.spec.BlueprintName, j.spec.Dockerfile); err != nil {
				return "", err
			}
		}
		return view.ID, j.built(ctx, view.ID)
	})
	if err != nil {
		return err
	}
	j.spec.BlueprintID, j.spec.BlueprintName = view.ID, ""
	return j.p.status(statusStarting, "")
}

// blueprint returns the blueprint to begin with: by its id, or the newest of its name that is built or being built. nil: none.
func (j *job) blueprint(ctx context.Context) (*api.BlueprintView, error) {
	if id := j.spec.BlueprintID; id != "" {
		view, err := j.set.api.Blueprint(ctx, id)
		if client.Missing(err) {
			return nil, rterr.New(rterr.NotFound, "", "there is no blueprint %s", id).WithRemedy("list the blueprints in Runloop's dashboard")
		}
		return view, err
	}
	list, err := j.set.api.Blueprints(ctx, j.spec.BlueprintName)
	if err != nil {
		return nil, err
	}
	var building *api.BlueprintView
	for i := range list.Blueprints {
		view := &list.Blueprints[i]
		switch {
		case view.Name != j.spec.BlueprintName || view.Status == api.BlueprintViewStatusFailed:
		case view.Status == api.BlueprintViewStatusBuildComplete:
			return view, nil
		case building == nil:
			building = view
		}
	}
	return building, nil
}

// built waits for the end of a build.
func (j *job) built(ctx context.Context, id string) error {
	for {
		view, err := j.set.api.Blueprint(ctx, id)
		switch {
		case err != nil:
			return err
		case view.Status == api.BlueprintViewStatusBuildComplete:
			return nil
		case view.Status == api.BlueprintViewStatusFailed:
			reason := "failed"
			if view.FailureReason != nil {
				reason = string(*view.FailureReason)
			}
			return rterr.New(rterr.Provider, "", "blueprint %s: %s", id, strings.ReplaceAll(reason, "_", " ")).
				With("blueprint", id).With("runloop_reason", reason).WithRemedy("see the build's log in Runloop's dashboard")
		}
		if err := sleep(ctx, j.s.waits.blueprint, j.s.waits.blueprint); err != nil {
			return err
		}
	}
}
