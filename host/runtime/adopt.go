package runtime

import (
	"context"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Restore loads the registry and takes hold of every sandbox again: adopted, gone, unreachable or foreign. It returns when each
// has been tried once; those that do not answer are looked for in the background. New work waits for it.
func (m *Manager) Restore(ctx context.Context) error {
	records, err := m.opts.Registry.Load(ctx)
	if err != nil {
		return rterr.Wrap(rterr.Internal, "load the registry", err)
	}
	done := make(chan struct{}, len(records))
	for _, rec := range records {
		r := m.newRuntime(rec)
		m.add(r)
		go func() {
			r.restore(ctx)
			done <- struct{}{}
		}()
	}
	for range records {
		<-done
	}
	return nil
}

// restore brings one runtime back to where it was.
func (r *Runtime) restore(ctx context.Context) {
	status := r.status()
	r.mu.Lock()
	r.armLimit()
	r.mu.Unlock()
	switch {
	case status == lifecycle.Stopped:
		r.restoreStopped()
	case r.handle() == nil:
		r.restoreIntent()
	case status == lifecycle.Error:
		// a person has to decide; the sandbox stays to its lease
	default:
		r.restoreSandbox(ctx)
	}
}

// restoreStopped ends a sandbox whose closing an earlier life of the host did not finish.
func (r *Runtime) restoreStopped() {
	phase := r.view().GetPhase()
	if r.rec.Keep || phase == backendv1.Phase_PHASE_GONE || phase == backendv1.Phase_PHASE_UNSPECIFIED {
		return
	}
	r.m.tasks.Go(func() {
		if err := r.closeSandbox(r.ctx, false); err != nil {
			r.log.Warn("a stopped runtime's sandbox is left to its lease", "error", err)
		}
	})
}

// restoreIntent goes on with a creation: asked again with the same intent, the backend finds what it had made.
func (r *Runtime) restoreIntent() {
	switch r.status() {
	case lifecycle.Starting, lifecycle.Building, lifecycle.Started:
		r.goConnect()
	default:
		cause := rterr.New(rterr.SandboxGone, "restore runtime "+r.id, "it had no sandbox yet")
		_ = r.apply(lifecycle.EventFailed, cause.Error(), cause) // legal in every status that gets here
	}
}

// restoreSandbox finds the sandbox of a handle again.
func (r *Runtime) restoreSandbox(ctx context.Context) {
	gen := newGeneration(r.rec.Runtime.GetGeneration(), nil, r.connectionLost)
	gen.disconnect()
	r.mu.Lock()
	r.gen = gen
	paused := r.rec.Runtime.GetPhase() == backendv1.Phase_PHASE_PAUSED
	r.mu.Unlock()
	if err := r.apply(lifecycle.EventConnectionLost, "the host was restarted", nil); err != nil {
		r.log.Debug("not disconnected", "error", err)
	}
	r.actions.restore(ctx, r, gen)
	if paused {
		r.restorePaused(gen)
		return
	}
	err := r.adopt(ctx, gen)
	if err != nil && !rterr.Is(err, rterr.SandboxGone, rterr.Integrity) {
		r.m.tasks.Go(func() { r.seek(gen) })
	}
}

// restorePaused takes a paused sandbox as it is, without waking it: the phase watch finds out if it is gone.
func (r *Runtime) restorePaused(gen *generation) {
	ctx, cancel := context.WithTimeout(r.ctx, r.m.opts.Waits.Adopt)
	defer cancel()
	exec, err := r.dial(ctx, r.handle())
	if err != nil {
		r.m.tasks.Go(func() { r.seek(gen) })
		return
	}
	gen.reconnect(exec)
	r.adopted(gen, "paused")
}

// adopt attaches to the sandbox of the handle once. SandboxGone and Integrity (something else answers in its place) end the
// generation.
func (r *Runtime) adopt(ctx context.Context, gen *generation) error {
	ctx, cancel := context.WithTimeout(ctx, r.m.opts.Waits.Adopt)
	defer cancel()
	connected, err := r.stream(ctx, r.connectRequest(r.handle()), func(*backendv1.ConnectResponse) {})
	if err == nil {
		var exec Executor
		if exec, err = r.dial(ctx, connected.GetHandle()); err == nil {
			r.update(func(rec *Record) { rec.Handle = connected.GetHandle() })
			gen.reconnect(exec)
			r.adopted(gen, "")
			return nil
		}
	}
	outcome := adoption(err)
	r.publishAdoption(outcome, err.Error())
	if outcome == runtimev1.Adoption_ADOPTION_GONE || outcome == runtimev1.Adoption_ADOPTION_FOREIGN {
		r.sandboxLost(gen, err)
	}
	return err
}

func adoption(err error) runtimev1.Adoption {
	switch {
	case err == nil:
		return runtimev1.Adoption_ADOPTION_ADOPTED
	case rterr.Is(err, rterr.SandboxGone, rterr.NotFound):
		return runtimev1.Adoption_ADOPTION_GONE
	case rterr.Is(err, rterr.Integrity):
		return runtimev1.Adoption_ADOPTION_FOREIGN
	default:
		return runtimev1.Adoption_ADOPTION_UNREACHABLE
	}
}

// adopted goes back to READY.
func (r *Runtime) adopted(gen *generation, message string) {
	r.publishAdoption(runtimev1.Adoption_ADOPTION_ADOPTED, message)
	if message != "paused" {
		r.setPhase(backendv1.Phase_PHASE_RUNNING, "")
	}
	if err := r.apply(lifecycle.EventAdopted, "the sandbox was found again", nil); err != nil {
		r.log.Debug("adopted without a change of status", "error", err)
	}
	gen.guarded.Do(func() { r.guard(gen) })
}

func (r *Runtime) publishAdoption(a runtimev1.Adoption, message string) {
	r.log.Info("looked for the sandbox", "adoption", a, "message", message)
	r.publish(&runtimev1.RuntimeEvent{Event: &runtimev1.RuntimeEvent_Adopted{
		Adopted: &runtimev1.Adopted{Adoption: a, Message: message},
	}})
}
