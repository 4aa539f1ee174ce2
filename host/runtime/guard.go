package runtime

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/recovery"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// guard looks after a sandbox as long as its generation lasts: it follows its phase and renews its lease.
func (r *Runtime) guard(gen *generation) {
	r.m.tasks.Go(func() { r.watchPhase(gen) })
	r.m.tasks.Go(func() { r.renew(gen) })
}

// life is a context that ends with the generation or the host.
func (r *Runtime) life(gen *generation) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(gen.ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// watchPhase keeps a WatchStatus stream open, over every restart of the plugin.
func (r *Runtime) watchPhase(gen *generation) {
	ctx, cancel := r.life(gen)
	defer cancel()
	for ctx.Err() == nil {
		err := r.watchOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case rterr.Is(err, rterr.SandboxGone, rterr.Integrity):
			r.sandboxLost(gen, err)
			return
		case rterr.Is(err, rterr.Unsupported):
			return // the backend cannot say; actions will find out
		}
		if _, givenUp := recovery.DecisionOf(err); givenUp {
			// A plugin that is down says nothing about its sandboxes: go on asking.
			r.log.Debug("the phase cannot be watched", "error", err)
			sleep(ctx, watchPause)
		}
	}
}

// watchPause is the time between tries to watch a phase once quick repeats have failed.
const watchPause = 5 * time.Second

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// watchOnce follows the phase until the stream ends, and says why.
func (r *Runtime) watchOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var events grpc.ServerStreamingClient[backendv1.WatchStatusResponse]
	var ev *backendv1.WatchStatusResponse
	err := r.m.opts.Recover.Do(ctx, r.op("watch status"), func(attempt context.Context) error {
		client, err := r.m.opts.Backends.Client(attempt, r.backendName())
		if err != nil {
			return err
		}
		// The stream outlives the attempt that opens it.
		events, err = client.WatchStatus(ctx, &backendv1.WatchStatusRequest{Handle: r.handle(), AgentCredential: r.rec.Credential})
		if err == nil {
			ev, err = events.Recv()
		}
		return err
	})
	for ; err == nil; ev, err = events.Recv() {
		if ev.GetPhase() == backendv1.Phase_PHASE_GONE || ev.GetPhase() == backendv1.Phase_PHASE_FAILED {
			return rterr.New(rterr.SandboxGone, "", "the sandbox has ended: %s", ev.GetMessage())
		}
		r.setPhase(ev.GetPhase(), ev.GetMessage())
	}
	if errors.Is(err, io.EOF) {
		return rterr.New(rterr.Network, "watch status", "the stream ended")
	}
	return err
}

// renew keeps the lease from ending, three times per lease.
func (r *Runtime) renew(gen *generation) {
	ctx, cancel := r.life(gen)
	defer cancel()
	for {
		sleep(ctx, r.rec.Lease/3)
		if ctx.Err() != nil {
			return
		}
		err := r.m.opts.Recover.Do(ctx, r.op("renew"), r.renewOnce)
		switch {
		case err == nil || ctx.Err() != nil:
		case rterr.Is(err, rterr.SandboxGone):
			r.sandboxLost(gen, err)
			return
		default:
			r.log.Warn("the lease was not renewed", "error", err)
		}
	}
}

func (r *Runtime) renewOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.m.opts.Waits.Call)
	defer cancel()
	client, err := r.m.opts.Backends.Client(ctx, r.backendName())
	if err != nil {
		return err
	}
	answer, err := client.Renew(ctx, &backendv1.RenewRequest{
		Handle: r.handle(), Lease: durationpb.New(r.rec.Lease), AgentCredential: r.rec.Credential,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.rec.Runtime.LeaseUntil = answer.GetLeaseUntil()
	r.mu.Unlock()
	return nil
}

// connectionLost is called when the sandbox did not answer for as long as the recovery policy allows. The runtime looks for it
// until it answers or is known to be gone.
func (r *Runtime) connectionLost(cause error) {
	gen := r.currentGeneration()
	if gen == nil || gen.ctx.Err() != nil || r.status() == lifecycle.Disconnected {
		return
	}
	gen.disconnect()
	if err := r.apply(lifecycle.EventConnectionLost, cause.Error(), cause); err != nil {
		return
	}
	r.m.tasks.Go(func() { r.seek(gen) })
}

// seek tries to find a sandbox again until the generation ends or the status's limit does.
func (r *Runtime) seek(gen *generation) {
	ctx, cancel := r.life(gen)
	defer cancel()
	for attempt := 1; ctx.Err() == nil && r.status() == lifecycle.Disconnected; attempt++ {
		err := r.adopt(ctx, gen)
		if err == nil || ctx.Err() != nil || rterr.Is(err, rterr.SandboxGone, rterr.Integrity) {
			return
		}
		sleep(ctx, min(time.Duration(attempt)*time.Second, watchPause))
	}
}

// sandboxLost says that the sandbox is gone for good. What ran in it ends as lost; by policy a new one takes its place.
func (r *Runtime) sandboxLost(gen *generation, cause error) {
	r.operate.Lock()
	defer r.operate.Unlock()
	if r.currentGeneration() != gen || r.status() == lifecycle.Stopped {
		return
	}
	gen.close(rterr.Wrap(rterr.SandboxGone, "", cause))
	r.setPhase(backendv1.Phase_PHASE_GONE, cause.Error())
	if err := r.apply(lifecycle.EventConnectionLost, cause.Error(), cause); err != nil {
		r.log.Debug("lost after an error", "error", err)
	}
	if !r.m.opts.Recreate {
		return
	}
	r.update(func(rec *Record) { rec.newIntent() })
	if err := r.apply(lifecycle.EventRecover, "the sandbox is made anew", nil); err != nil {
		r.log.Warn("not recreated", "error", err)
		return
	}
	r.goConnect()
}
