package runtime

import (
	"context"
	"slices"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Stage is what is being set up in a runtime.
type Stage uint8

// The stages.
const (
	StageUnspecified Stage = iota
	StageWorkspace
	StageGitHooks
)

func (s Stage) event() (lifecycle.Event, lifecycle.Status) {
	if s == StageGitHooks {
		return lifecycle.EventSetUpGitHooks, lifecycle.SettingUpGitHooks
	}
	return lifecycle.EventSetUpWorkspace, lifecycle.SettingUpWorkspace
}

// SetUp calls do while the runtime's status says what is being set up, and returns its error. The status is READY again
// afterwards, with the error as its message. One at a time, in the order of the calls: SetUp blocks for its turn, and for a
// runtime that is on its way up, until ctx ends. do gets a context that ends with neither: what is set up is finished even if
// nobody waits for it any more, so do bounds itself.
func (m *Manager) SetUp(ctx context.Context, ref string, stage Stage, message string, do func(context.Context) error) error {
	r, err := m.find(ctx, ref)
	if err != nil {
		return err
	}
	turn, err := r.setUps.enter()
	if err != nil {
		return err
	}
	defer turn.release()
	if err := turn.wait(ctx); err != nil {
		return err
	}
	gen, err := r.admit(ctx)
	if err != nil {
		return err
	}
	event, status := stage.event()
	if err := r.apply(event, message, nil); err != nil {
		return rterr.From(err).WithRan(rterr.RanNo)
	}
	failed := do(context.WithoutCancel(ctx))
	r.endSetUp(gen, status, failed)
	return failed
}

// endSetUp goes back to READY, unless something else has become of the runtime meanwhile. While operate is held no new sandbox
// takes the old one's place.
func (r *Runtime) endSetUp(gen *generation, status lifecycle.Status, failed error) {
	r.operate.Lock()
	defer r.operate.Unlock()
	if r.currentGeneration() != gen || r.status() != status {
		return
	}
	message := ""
	if failed != nil {
		message = failed.Error()
	}
	if err := r.apply(lifecycle.EventReady, message, nil); err != nil {
		r.log.Debug("set up, but not ready", "error", err)
	}
}

// HasFeature reports whether a runtime was asked for with a feature, "jupyter".
func (m *Manager) HasFeature(ctx context.Context, ref, feature string) (bool, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return false, err
	}
	return slices.Contains(r.rec.Spec.GetFeatures(), feature), nil // the spec never changes
}
