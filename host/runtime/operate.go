package runtime

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// call runs one small idempotent call to the runtime's backend under the recovery policy.
func (r *Runtime) call(ctx context.Context, op string, limit time.Duration, fn func(context.Context, backendv1.BackendServiceClient) error) error {
	return r.m.opts.Recover.Do(ctx, r.op(op), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		client, err := r.m.opts.Backends.Client(ctx, r.backendName())
		if err != nil {
			return err
		}
		return fn(ctx, client)
	})
}

// requireReady refuses what only a READY runtime can do.
func (r *Runtime) requireReady(op string) error {
	if s := r.status(); s != lifecycle.Ready {
		return rterr.New(rterr.IllegalState, op+" runtime "+r.id, "not possible in status %s", s).
			With("status", s.String()).With("operation", op)
	}
	return nil
}

// pause freezes the sandbox. Idempotent.
func (r *Runtime) pause(ctx context.Context) error {
	r.operate.Lock()
	defer r.operate.Unlock()
	if err := r.requireReady("pause"); err != nil {
		return err
	}
	if r.view().GetPhase() == backendv1.Phase_PHASE_PAUSED {
		return nil
	}
	err := r.call(ctx, "pause", r.m.opts.Waits.Pause, func(ctx context.Context, client backendv1.BackendServiceClient) error {
		_, err := client.Pause(ctx, &backendv1.PauseRequest{Handle: r.handle(), AgentCredential: r.rec.Credential})
		return err
	})
	if err != nil {
		return rterr.Wrap(rterr.Provider, "pause runtime "+r.id, err)
	}
	r.setPhase(backendv1.Phase_PHASE_PAUSED, "paused on request")
	return nil
}

// resume lets the sandbox go on. Idempotent.
func (r *Runtime) resume(ctx context.Context) error {
	r.operate.Lock()
	defer r.operate.Unlock()
	if err := r.requireReady("resume"); err != nil {
		return err
	}
	gen := r.currentGeneration()
	if r.view().GetPhase() != backendv1.Phase_PHASE_PAUSED {
		return nil
	}
	if err := r.apply(lifecycle.EventResume, "resuming", nil); err != nil {
		return err
	}
	err := r.call(ctx, "resume", r.m.opts.Waits.Pause, func(ctx context.Context, client backendv1.BackendServiceClient) error {
		answer, err := client.Resume(ctx, &backendv1.ResumeRequest{
			Handle: r.handle(), AgentCredential: r.rec.Credential, Lease: durationpb.New(r.rec.Lease),
		})
		if err == nil && answer.GetHandle() != nil {
			r.update(func(rec *Record) { rec.Handle = answer.GetHandle() })
		}
		return err
	})
	if err != nil {
		failed := rterr.Wrap(rterr.Provider, "resume runtime "+r.id, err)
		_ = r.apply(lifecycle.EventFailed, failed.Error(), failed) // legal in every status but STOPPED, which needs operate
		return failed
	}
	exec, err := r.dial(ctx, r.handle())
	if err != nil {
		return err
	}
	gen.reconnect(exec)
	r.setPhase(backendv1.Phase_PHASE_RUNNING, "resumed on request")
	return r.advance(lifecycle.Ready, "")
}

// close ends the runtime and its sandbox; with keep the sandbox is left to its lease. Idempotent.
func (r *Runtime) close(ctx context.Context, keep bool) error {
	if r.status() != lifecycle.Stopped {
		r.update(func(rec *Record) { rec.Keep = keep })
		if err := r.apply(lifecycle.EventClose, "closed on request", nil); err != nil {
			return err
		}
	}
	r.operate.Lock()
	defer r.operate.Unlock()
	if err := r.closeSandbox(ctx, keep); err != nil {
		return rterr.Wrap(rterr.Provider, "stop runtime "+r.id, err)
	}
	return r.m.opts.Registry.ReleaseSid(ctx, r.principal(), r.rec.Runtime.GetSid(), r.id)
}

// closeSandbox ends or lets go of the sandbox, and of everything that the host keeps running for it.
func (r *Runtime) closeSandbox(ctx context.Context, keep bool) error {
	ctx, cancel := context.WithTimeout(ctx, r.m.opts.Waits.Close)
	defer cancel()
	r.mu.Lock()
	end := r.endConnect
	r.mu.Unlock()
	if end != nil {
		end()
	}
	gen := r.currentGeneration()
	defer r.stop()
	if gen != nil {
		defer gen.close(rterr.New(rterr.SandboxGone, "", "the runtime was stopped"))
	}
	handle := r.handle()
	if handle == nil {
		if err := r.removeIntent(); err != nil {
			return err
		}
		r.setPhase(backendv1.Phase_PHASE_GONE, "")
		return nil
	}
	mode := backendv1.CloseMode_CLOSE_MODE_DELETE
	if keep {
		mode = backendv1.CloseMode_CLOSE_MODE_KEEP
	}
	err := r.call(ctx, "close", r.m.opts.Waits.Close, func(ctx context.Context, client backendv1.BackendServiceClient) error {
		_, err := client.Close(ctx, &backendv1.CloseRequest{Handle: handle, Mode: mode, AgentCredential: r.rec.Credential})
		return err
	})
	if err != nil {
		return err
	}
	if !keep {
		r.setPhase(backendv1.Phase_PHASE_GONE, "closed on request")
	}
	return nil
}

// endpoint returns the URL of a port on the sandbox listener.
func (r *Runtime) endpoint(port uint32) *runtimev1.GetEndpointResponse {
	v := r.view()
	return &runtimev1.GetEndpointResponse{
		Url:     v.GetUrl() + portPath(port),
		Headers: map[string]string{SessionKeyHeader: v.GetSessionKey()},
	}
}

// vscodeURL asks the backend.
func (r *Runtime) vscodeURL(ctx context.Context) (string, error) {
	var url string
	err := r.call(ctx, "vscode url", r.m.opts.Waits.Call, func(ctx context.Context, client backendv1.BackendServiceClient) error {
		answer, err := client.VSCodeURL(ctx, &backendv1.VSCodeURLRequest{
			Handle: r.handle(), Folder: r.view().GetWorkspace(), AgentCredential: r.rec.Credential,
		})
		url = answer.GetUrl()
		return err
	})
	return url, rterr.Wrap(rterr.Provider, "vscode url of runtime "+r.id, err)
}

// retention of a stopped runtime in memory; the registry keeps it longer.
const retention = time.Hour
