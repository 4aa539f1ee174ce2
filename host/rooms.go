package host

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/host/answer"
	"github.com/openhands-rt/openhands-rt/host/auth"
	"github.com/openhands-rt/openhands-rt/host/config"
	"github.com/openhands-rt/openhands-rt/host/door/api"
	"github.com/openhands-rt/openhands-rt/host/door/openhands"
	"github.com/openhands-rt/openhands-rt/host/plugin"
	"github.com/openhands-rt/openhands-rt/host/recovery"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/host/workspace"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func (h *host) startBackends(ctx context.Context) error {
	h.backends = newBackends(plugin.Options{
		Logger: h.log.Named("plugin"), RuntimeDir: filepath.Join(h.config().DataDir, "run"), Credentials: h.credentials,
	})
	h.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), h.config().Timeouts.Shutdown.Std())
		defer cancel()
		for _, err := range h.backends.stop(ctx) {
			h.log.Error("a plugin did not stop", "error", err)
		}
	})
	specs, err := h.specs(h.config())
	if err != nil {
		return err
	}
	for _, err := range h.backends.apply(ctx, h.config().DefaultBackend, h.config().FallbackBackends, specs, h.inUse) {
		return err // at start-up a backend that can never work is the operator's to correct
	}
	return nil
}

// specs are the backends of a config as their supervisors want them.
func (h *host) specs(cfg *config.Config) ([]plugin.Spec, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "find this binary", err)
	}
	specs := make([]plugin.Spec, 0, len(cfg.Backends))
	for name, b := range cfg.Backends {
		settings, err := json.Marshal(b.Config)
		if err != nil {
			return nil, rterr.Wrap(rterr.ConfigInvalid, "backend "+name, err)
		}
		command, err := cfg.Argv(name, filepath.Dir(self))
		if err != nil {
			return nil, rterr.Wrap(rterr.ConfigInvalid, "backend "+name, err)
		}
		specs = append(specs, plugin.Spec{
			Backend: name, Command: command, Address: b.Address, SHA256: b.SHA256, Env: b.Env, EnvAllow: b.EnvAllow,
			Config: settings, Owner: h.owner, StateDir: filepath.Join(cfg.DataDir, "backends", name),
			Timing: plugin.Timing{Start: cfg.Timeouts.PluginStart.Std()},
		})
	}
	slices.SortFunc(specs, func(a, b plugin.Spec) int { return cmp.Compare(a.Backend, b.Backend) })
	return specs, nil
}

// credentials resolves a backend's references, anew each time.
func (h *host) credentials(ctx context.Context, spec plugin.Spec) (map[string]string, error) {
	return h.config().ResolveCredentials(ctx, spec.Backend)
}

// inUse: a backend that is no longer configured stays as long as it has runtimes.
func (h *host) inUse(name string) bool { return h.manager != nil && h.manager.Uses(name) }

func (h *host) startRuntimes(ctx context.Context) error {
	h.metrics = newMetrics()
	h.events = newEventLog(h.store.Events, h.log.Named("events"))
	h.later(h.events.close)
	last, err := h.events.lastSequence(ctx)
	if err != nil {
		return err
	}
	files, err := answer.OpenFiles(filepath.Join(h.config().DataDir, "principals"))
	if err != nil {
		return err
	}
	h.later(func() { _ = files.Close() }) // a folder that is only read is left as it is
	h.manager = runtime.New(h.runtimeOptions(last, files))
	h.later(h.manager.Close)
	h.metrics.gauges(h.manager.Counts, h.store.Actions.Waiting, h.events.dropped.Load)
	ctx, cancel := context.WithTimeout(ctx, restoreLimit)
	defer cancel()
	return h.manager.Restore(ctx)
}

func (h *host) runtimeOptions(last uint64, files answer.Sessions) runtime.Options {
	cfg := h.config()
	waits := runtime.DefaultWaits()
	waits.Close, waits.Call = cfg.Timeouts.Close.Std(), cfg.Timeouts.Call.Std()
	waits.Connect = func(backend string) time.Duration { return h.config().Backends[backend].ConnectTimeout.Std() }
	waits.Pause, waits.Status = cfg.Timeouts.Pause.Std(), cfg.Timeouts.StatusLimit
	sandboxURL := h.sandboxURL()
	return runtime.Options{
		Registry: newRegistry(h.store), Journal: &journal{actions: h.store.Actions, log: h.log.Named("journal")},
		Events: h.events, LastSequence: last, Backends: h.backends, Recover: h.recoverer(), Dial: dialAgent,
		Answers: answer.New(files),
		Metrics: h.metrics, Logger: h.log.Named("runtime"), Waits: waits, Lease: cfg.Lease.Std(),
		Recreate: cfg.OnDisconnect == string(policy.Recreate),
		Limits: runtime.Limits{
			Runtimes: cfg.Limits.MaxRuntimes, Lag: cfg.Limits.SubscriberLag, Subscribers: cfg.Limits.Subscribers,
			Transfers: cfg.Limits.Transfers,
			Actions: runtime.ActionLimits{
				Queue: cfg.Limits.Queue, Processes: cfg.Limits.Processes, ProcessQueue: cfg.Limits.Queue, RelayBytes: relayBytes,
			},
		},
		SandboxURL: func(id string) string { return sandboxURL + "/" + id },
	}
}

// sandboxURL is where clients find the runtimes.
func (h *host) sandboxURL() string { return cmp.Or(h.config().SandboxURL, urlOf(h.sandbox)) }

// relayBytes is how much output is held for a client that does not read.
const relayBytes = 1 << 20

func (h *host) recoverer() *recovery.Recoverer {
	return recovery.New(h.config().Recovery.Table(), recovery.Hooks{
		Refresh: func(ctx context.Context, op policy.Op) error { return h.backends.refresh(ctx, op.Backend) },
		Degrade: func(op policy.Op, err error) {
			h.log.Warn("gave up", "operation", op.Name, "backend", op.Backend, "runtime", op.Runtime, "error", err)
		},
		Report: func(a recovery.Attempt) {
			h.metrics.recovered(a)
			if a.Op.Runtime != "" && a.Err != nil {
				h.manager.Recovered(a.Op.Runtime, attemptView(a))
			}
		},
	})
}

func attemptView(a recovery.Attempt) *runtimev1.RecoveryAttempt {
	return &runtimev1.RecoveryAttempt{
		Operation: a.Op.Name, Class: a.Decision.Class.String(), Strategy: a.Decision.Strategy.String(),
		Attempt: uint32(a.Number), Delay: durationpb.New(a.Decision.Delay), Error: a.Err.Error(), //nolint:gosec // a small count
	}
}

// dialAgent makes the client of an agent; it does no I/O.
func dialAgent(endpoint *backendv1.EndpointResponse, credential string) (runtime.Executor, error) {
	c, err := client.New(client.Config{
		Address: endpoint.GetAddress(), Path: endpoint.GetPath(), Headers: endpoint.GetHeaders(), Credential: credential,
	})
	if err != nil {
		return nil, rterr.Wrap(rterr.Provider, "dial agent", err)
	}
	return c, nil
}

// openDoors starts the servers of both listeners; failed delivers the error of one that ends by itself.
func (h *host) openDoors(context.Context) (Endpoint, <-chan error, error) {
	key, err := auth.MintKey(h.config().KeyFile)
	if err != nil {
		return Endpoint{}, nil, err
	}
	var ring auth.Keyring
	ring.Add(auth.Hash(key), runtime.Principal{ID: "operator", Name: "operator"})
	mux := http.NewServeMux()
	oh := openhands.New(openhands.Options{Manager: h.manager, Keys: ring.Lookup, Metrics: h.metrics, Logger: h.log.Named("openhands")})
	h.later(oh.Close)
	oh.Register(mux)
	api.Register(mux, h.manager, workspace.New(h.manager), ring.Require, int(h.config().Limits.MaxMessage), h.health())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", h.readyz)
	if h.config().Metrics.Enabled {
		mux.Handle("GET /metrics", ring.Require(h.metrics.handler()))
	}
	failed := make(chan error, 2)
	for _, door := range []struct {
		server *http.Server
		on     func(*http.Server) error
	}{
		{newServer(auth.Origins(h.config().AllowedHosts, h.config().AllowedOrigins, mux), h.log.Named("api")), func(s *http.Server) error { return s.Serve(h.api) }},
		{newSandboxServer(oh, api.Sandboxes(h.manager), h.log.Named("sandboxes")), func(s *http.Server) error { return s.Serve(oh.Listener(h.sandbox)) }},
	} {
		h.servers = append(h.servers, door.server)
		go func() { failed <- door.on(door.server) }()
	}
	return Endpoint{URL: urlOf(h.api), SandboxURL: h.sandboxURL(), KeyFile: h.config().KeyFile}, failed, nil
}

// readyz answers 200 when requests are taken and the store answers.
func (h *host) readyz(w http.ResponseWriter, r *http.Request) {
	if err := h.readiness(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

func (h *host) readiness(ctx context.Context) error {
	if !h.ready.Load() {
		return rterr.New(rterr.Unavailable, "", "starting or stopping")
	}
	return h.store.Ping(ctx)
}

// health is gRPC's health service: each service serves while the daemon is ready.
func (h *host) health() grpchealth.Checker {
	return checker{h}
}

type checker struct{ h *host }

// Check answers for one service, or for all with an empty name.
func (c checker) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if req.Service != "" && !slices.Contains(api.Services(), req.Service) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("unknown service %q", req.Service))
	}
	if notReady := c.h.readiness(ctx); notReady != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil //nolint:nilerr // this is the answer
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}
