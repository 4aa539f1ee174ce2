package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/recovery"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// goConnect begins to connect in the background. A closing ends it with endConnect before it looks for what there is to close.
func (r *Runtime) goConnect() {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	r.mu.Lock()
	r.endConnect = func() { cancel(); <-done }
	r.mu.Unlock()
	r.m.tasks.Go(func() {
		defer close(done)
		defer cancel()
		r.connect(ctx)
	})
}

// connect makes the sandbox of the present intent and brings the runtime to READY, or to ERROR. The intent was saved before, so
// that a host that dies in here finds the sandbox again.
func (r *Runtime) connect(ctx context.Context) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.m.opts.Waits.Connect(r.backendName()))
	defer cancel()
	err := r.m.opts.Recover.Do(ctx, r.op("connect"), r.connectOnce)
	for err != nil && r.degrade(err) {
		err = r.m.opts.Recover.Do(ctx, r.op("connect"), r.connectOnce)
	}
	if err == nil {
		r.m.opts.Metrics.RuntimeReady(r.backendName(), time.Since(began))
		return
	}
	if r.ctx.Err() != nil || r.status() == lifecycle.Stopped {
		return // closing does the clean-up
	}
	cleanErr := r.removeIntent()
	if cleanErr != nil {
		r.log.Warn("a failed creation may have left a sandbox until its lease ends", "error", cleanErr)
	}
	failed := rterr.Wrap(rterr.Internal, "connect", err)
	if applyErr := r.apply(lifecycle.EventFailed, failed.Error(), failed); applyErr != nil {
		r.log.Debug("failed after the end", "error", applyErr)
	}
}

// degrade gives a runtime that never had a sandbox to the next backend, when the present one has nothing left to give.
func (r *Runtime) degrade(err error) bool {
	decision, ok := recovery.DecisionOf(err)
	next, has := r.m.opts.Backends.Fallback(r.backendName())
	if !ok || !decision.Exhausted || !has || r.ctx.Err() != nil || r.view().GetGeneration() != 1 || r.status() != lifecycle.Starting {
		return false
	}
	r.log.Warn("the backend has nothing left to give; trying the next one", "next", next, "error", err)
	if cleanErr := r.removeIntent(); cleanErr != nil {
		r.log.Warn("a failed creation may have left a sandbox until its lease ends", "error", cleanErr)
	}
	r.update(func(rec *Record) {
		rec.newIntent()
		rec.Runtime.Backend, rec.Runtime.Generation = next, 1
	})
	return true
}

// connectOnce is one try: idempotent by the intent.
func (r *Runtime) connectOnce(ctx context.Context) error {
	connected, err := r.stream(ctx, r.connectRequest(nil), r.report)
	if err != nil {
		return err
	}
	exec, err := r.dial(ctx, connected.GetHandle())
	if err != nil {
		return err
	}
	r.install(connected, exec)
	return r.advance(lifecycle.Ready, "")
}

func (r *Runtime) connectRequest(handle *backendv1.Handle) *backendv1.ConnectRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &backendv1.ConnectRequest{
		RuntimeId: r.id, Sid: r.rec.Runtime.GetSid(), IntentId: r.rec.IntentID, Generation: r.rec.Runtime.GetGeneration(),
		Spec: r.rec.Spec, Handle: handle, AgentCredential: r.rec.Credential, SessionKey: r.rec.Runtime.GetSessionKey(),
		Lease: durationpb.New(r.rec.Lease), Principal: r.rec.Principal,
	}
}

// stream runs Connect to its end; report gets each status and step.
func (r *Runtime) stream(ctx context.Context, req *backendv1.ConnectRequest, report func(*backendv1.ConnectResponse)) (*backendv1.Connected, error) {
	client, err := r.m.opts.Backends.Client(ctx, r.backendName())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := client.Connect(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		ev, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil, rterr.New(rterr.Provider, "", "the backend ended the connect without an answer")
		}
		if err != nil {
			return nil, err
		}
		if connected := ev.GetConnected(); connected != nil {
			if len(connected.GetHandle().GetOpaque()) > maxHandle {
				return nil, rterr.New(rterr.Provider, "", "the backend's handle has %d bytes, at most %d are kept",
					len(connected.GetHandle().GetOpaque()), maxHandle)
			}
			return connected, nil
		}
		report(ev)
	}
}

// maxHandle is the largest opaque handle, in bytes.
const maxHandle = 64 << 10

// report passes a backend's statuses and steps on. READY is the host's to say, once it holds the executor.
func (r *Runtime) report(ev *backendv1.ConnectResponse) {
	if step := ev.GetStep(); step != nil {
		r.publish(&runtimev1.RuntimeEvent{Event: &runtimev1.RuntimeEvent_Step{Step: step}})
		return
	}
	to := lifecycle.Status(ev.GetStatus().GetStatus())
	if to == lifecycle.Ready {
		return
	}
	if err := r.advance(to, ev.GetStatus().GetMessage()); err != nil {
		r.log.Debug("a status of the backend was passed over", "status", to, "error", err)
	}
}

// advance walks the way up to a status. A runtime that was closed meanwhile is not begun again.
func (r *Runtime) advance(to lifecycle.Status, message string) error {
	from := r.status()
	way, ok := lifecycle.Path(from, to)
	if !ok || from == lifecycle.Stopped {
		return rterr.New(rterr.IllegalState, "runtime "+r.id, "no way from %s to %s", from, to)
	}
	for _, event := range way {
		if err := r.apply(event, message, nil); err != nil {
			return err
		}
	}
	return nil
}

// dial makes the executor of a sandbox: its agent where the host can reach it, else the way through the plugin.
func (r *Runtime) dial(ctx context.Context, handle *backendv1.Handle) (Executor, error) {
	client, err := r.m.opts.Backends.Client(ctx, r.backendName())
	if err != nil {
		return nil, err
	}
	endpoint, err := client.Endpoint(ctx, &backendv1.EndpointRequest{Handle: handle})
	if err != nil && !rterr.Is(err, rterr.Unsupported) {
		return nil, rterr.Wrap(rterr.Provider, "endpoint", err)
	}
	if err == nil && !endpoint.GetPluginOnly() {
		return r.m.opts.Dial(endpoint, r.rec.Credential)
	}
	backend := r.backendName()
	return &pluginExecutor{
		client: func(ctx context.Context) (backendv1.BackendServiceClient, error) {
			return r.m.opts.Backends.Client(ctx, backend)
		},
		handle: r.handle, credential: r.rec.Credential,
	}, nil
}

// install records a connected sandbox and starts to look after it.
func (r *Runtime) install(c *backendv1.Connected, exec Executor) {
	gen := newGeneration(r.rec.Runtime.GetGeneration(), exec, r.connectionLost)
	r.update(func(rec *Record) {
		r.gen = gen
		rec.Handle = c.GetHandle()
		v := rec.Runtime
		v.SandboxId, v.Phase = c.GetHandle().GetSandboxId(), backendv1.Phase_PHASE_RUNNING
		v.Workspace, v.Home, v.Username = c.GetWorkspace(), c.GetHome(), c.GetUsername()
		v.Capabilities = c.GetCapabilities()
		v.LeaseUntil = timestamppb.New(time.Now().Add(rec.Lease))
	})
	gen.guarded.Do(func() { r.guard(gen) })
}

// removeIntent ends whatever a failed creation has left.
func (r *Runtime) removeIntent() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.m.opts.Waits.Cleanup)
	defer cancel()
	client, err := r.m.opts.Backends.Client(ctx, r.backendName())
	if err != nil {
		return err
	}
	found, err := listIntent(ctx, client, r.rec.IntentID)
	if err != nil {
		return err
	}
	for _, s := range found {
		_, closeErr := client.Close(ctx, &backendv1.CloseRequest{
			Handle: s.GetHandle(), Mode: backendv1.CloseMode_CLOSE_MODE_DELETE, AgentCredential: r.rec.Credential,
		})
		err = errors.Join(err, closeErr)
	}
	if err != nil {
		return fmt.Errorf("close what was made: %w", err)
	}
	return nil
}

// listIntent returns the sandboxes of one creation.
func listIntent(ctx context.Context, client backendv1.BackendServiceClient, intent string) ([]*backendv1.ListedSandbox, error) {
	var all []*backendv1.ListedSandbox
	for token := ""; ; {
		page, err := client.List(ctx, &backendv1.ListRequest{IntentId: intent, PageToken: token})
		if err != nil {
			return nil, rterr.Wrap(rterr.Provider, "list sandboxes", err)
		}
		all = append(all, page.GetSandboxes()...)
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}
