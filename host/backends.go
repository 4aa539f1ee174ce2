package host

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/openhands-rt/openhands-rt/host/plugin"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// backends are the supervised plugins by the operator's names for them. A reload changes which there are.
type backends struct {
	opts plugin.Options

	mu     sync.Mutex
	first  string   // the default
	next   []string // its fallbacks
	byName map[string]*plugin.Supervisor
}

var _ runtime.Backends = (*backends)(nil)

func newBackends(opts plugin.Options) *backends {
	return &backends{opts: opts, byName: map[string]*plugin.Supervisor{}}
}

// apply makes specs the backends: new ones are started, changed ones reloaded. One that is no longer configured is stopped
// unless keep says that it still has runtimes. Errors of one backend do not hold up the others; all come back.
func (b *backends) apply(ctx context.Context, def string, fallbacks []string, specs []plugin.Spec, keep func(name string) bool) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.first, b.next = def, fallbacks
	var errs []error
	wanted := map[string]bool{}
	for _, spec := range specs {
		wanted[spec.Backend] = true
		if old, ok := b.byName[spec.Backend]; ok {
			if err := old.Reload(ctx, spec); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		s := plugin.New(spec, b.opts)
		if err := s.Start(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		b.byName[spec.Backend] = s
	}
	for name, s := range b.byName {
		if wanted[name] || keep(name) {
			continue
		}
		delete(b.byName, name)
		if err := s.Stop(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// stop ends every plugin; sandboxes stay.
func (b *backends) stop(ctx context.Context) []error {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.byName))
	b.byName = map[string]*plugin.Supervisor{}
	b.mu.Unlock()
	results := make(chan error, len(all))
	for _, s := range all {
		go func() { results <- s.Stop(ctx) }()
	}
	var errs []error
	for range all {
		if err := <-results; err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Default is the backend of new runtimes.
func (b *backends) Default() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}

// Fallback is the backend to try for a new runtime when name has nothing left to give; false if there is none.
func (b *backends) Fallback(name string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	order := append([]string{b.first}, b.next...)
	at := slices.Index(order, name)
	if at < 0 || at+1 >= len(order) {
		return "", false
	}
	return order[at+1], true
}

func (b *backends) get(name string) *plugin.Supervisor {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byName[name]
}

// Client returns the client of a backend.
func (b *backends) Client(ctx context.Context, name string) (backendv1.BackendServiceClient, error) {
	s := b.get(name)
	if s == nil {
		return nil, rterr.New(rterr.PluginUnavailable, "backend "+name, "it is no longer configured").
			WithRan(rterr.RanNo).WithRemedy("configure it again, or stop its runtimes")
	}
	return s.Client(ctx)
}

// refresh reads a backend's credentials again and configures it with them.
func (b *backends) refresh(ctx context.Context, name string) error {
	s := b.get(name)
	if s == nil {
		return rterr.New(rterr.NotFound, "backend "+name, "it is no longer configured")
	}
	return s.Reconfigure(ctx)
}

// List returns what is known of each backend, sorted by name.
func (b *backends) List() []*runtimev1.Backend {
	b.mu.Lock()
	names := slices.Sorted(maps.Keys(b.byName))
	out := make([]*runtimev1.Backend, len(names))
	for i, name := range names {
		out[i] = backendView(b.byName[name].Snapshot())
	}
	b.mu.Unlock()
	return out
}

func backendView(s plugin.Snapshot) *runtimev1.Backend {
	v := &runtimev1.Backend{
		Name: s.Backend, Source: s.Source, State: pluginState(s.State), Pid: int64(s.PID), Warnings: s.Warnings,
		Plugin: s.Describe.GetName(), Version: s.Describe.GetVersion(), Capabilities: s.Describe.GetCapabilities(),
		Restarts:  uint32(max(s.Starts-1, 0)), //nolint:gosec // a count of restarts
		LastLines: s.Output.Lines,
	}
	if s.LastError != nil {
		v.LastError = s.LastError.Error()
	}
	return v
}

func pluginState(s plugin.State) runtimev1.PluginState {
	switch s {
	case plugin.Starting:
		return runtimev1.PluginState_PLUGIN_STATE_STARTING
	case plugin.Running:
		return runtimev1.PluginState_PLUGIN_STATE_RUNNING
	case plugin.Backoff:
		return runtimev1.PluginState_PLUGIN_STATE_BACKOFF
	case plugin.Quarantined, plugin.Misconfigured:
		return runtimev1.PluginState_PLUGIN_STATE_QUARANTINED
	case plugin.Stopped, plugin.Stopping:
		return runtimev1.PluginState_PLUGIN_STATE_STOPPED
	default:
		return runtimev1.PluginState_PLUGIN_STATE_UNSPECIFIED
	}
}
