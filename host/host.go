// Package host is the composition root of the daemon: it builds every room of the house from the config, brings them up in order
// (store, plugins, adoption, doors), and takes them down in the other order. Nobody below it knows the whole.
package host

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/host/config"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/host/store"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Options are what Run takes.
type Options struct {
	Config *config.Config
	Logger hclog.Logger
	// Reload delivers the configs to change to while the daemon runs (SIGHUP); nil means never.
	Reload <-chan *config.Config
	// Ready is called once, when requests are taken; nil means nobody waits.
	Ready func(Endpoint)
	// Version of the daemon.
	Version string
}

// Run serves until ctx ends, then stops gracefully: no new requests, running actions and sandboxes are left to the next start.
// The error says why it could not start, or what did not stop in time.
func Run(ctx context.Context, o Options) error {
	h := &host{opts: o, log: o.Logger, cfg: o.Config}
	defer h.down()
	if err := h.up(ctx); err != nil {
		return err
	}
	return h.serve(ctx)
}

// host is the running daemon.
type host struct {
	opts Options
	log  hclog.Logger

	mu  sync.Mutex // guards cfg
	cfg *config.Config

	owner    string
	store    *store.Store
	metrics  *metrics
	events   *eventLog
	backends *backends
	manager  *runtime.Manager
	api      net.Listener
	sandbox  net.Listener
	servers  []*http.Server
	ready    atomic.Bool
	closers  []func()
	once     sync.Once
}

// config is the one in force.
func (h *host) config() *config.Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg
}

func (h *host) setConfig(cfg *config.Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg = cfg
}

// later registers what down has to undo; the last is undone first.
func (h *host) later(undo func()) { h.closers = append(h.closers, undo) }

func (h *host) down() {
	h.once.Do(func() {
		for i := len(h.closers) - 1; i >= 0; i-- {
			h.closers[i]()
		}
	})
}

// up builds and starts everything but the doors.
func (h *host) up(ctx context.Context) error {
	if err := os.MkdirAll(h.config().DataDir, 0o700); err != nil {
		return rterr.New(rterr.ConfigInvalid, "make data folder", "%v", err).WithField("data_dir").WithCause(err).
			WithRemedy("choose a data_dir that this user may write to")
	}
	for _, step := range []func(context.Context) error{h.lockData, h.openStore, h.openListeners, h.startBackends, h.startRuntimes} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lockData keeps a second daemon away from data_dir. The embedded store locks its own folder, too; an external one does not.
func (h *host) lockData(context.Context) error {
	lock, err := store.LockDir(h.config().DataDir)
	if err != nil {
		return err
	}
	h.later(func() {
		if err := lock.Release(); err != nil {
			h.log.Warn("release the lock of the data folder", "error", err)
		}
	})
	return nil
}

func (h *host) openStore(ctx context.Context) (err error) {
	r := h.config().Store.Retention
	h.store, err = store.Open(ctx, store.Config{
		Dir: filepath.Join(h.config().DataDir, "store"), URL: h.config().Store.URL, CredentialsFile: h.config().Store.CredentialsFile,
		Replicas: h.config().Store.Replicas, SyncAlways: h.config().Store.SyncAlways, Logger: h.log.Named("store"),
		Bounds: store.Bounds{
			DoneActions: r.Actions.Std(), ActionBytes: int64(r.ActionsSize), StoppedRuntimes: r.Runtimes.Std(),
			RuntimeBytes: int64(r.RuntimesSize), EventAge: r.Events.Std(), EventCount: int64(r.EventsCount), EventBytes: int64(r.EventsSize),
		},
	})
	if err != nil {
		return err
	}
	h.later(func() {
		if err := h.store.Close(context.Background()); err != nil {
			h.log.Error("the store did not close cleanly", "error", err)
		}
	})
	h.owner, err = h.store.Owner(ctx)
	return rterr.Wrap(rterr.Internal, "read owner", err)
}

func (h *host) openListeners(ctx context.Context) (err error) {
	if h.api, err = listen(ctx, "listen", h.config().Listen); err != nil {
		return err
	}
	h.later(func() { _ = h.api.Close() }) // its server has closed it, unless start-up failed
	if h.sandbox, err = listen(ctx, "sandbox_listen", h.config().SandboxListen); err != nil {
		return err
	}
	h.later(func() { _ = h.sandbox.Close() })
	return nil
}

// serve opens the doors and waits for the end.
func (h *host) serve(ctx context.Context) error {
	endpoint, failed, err := h.openDoors(ctx)
	if err != nil {
		return err
	}
	h.ready.Store(true)
	if err := endpoint.write(h.config().DataDir); err != nil {
		return err
	}
	h.log.Info("ready", "url", endpoint.URL, "sandbox_url", endpoint.SandboxURL, "key_file", endpoint.KeyFile, "version", h.opts.Version)
	if h.opts.Ready != nil {
		h.opts.Ready(endpoint)
	}
	for {
		select {
		case <-ctx.Done():
			return h.stop(endpoint)
		case err := <-failed:
			return errors.Join(rterr.Wrap(rterr.Internal, "serve", err), h.stop(endpoint))
		case cfg := <-h.opts.Reload:
			h.reload(ctx, cfg)
		}
	}
}

// stop closes the doors: first nobody finds them, then no request comes in.
func (h *host) stop(endpoint Endpoint) error {
	h.log.Info("stopping; sandboxes and their actions go on")
	h.ready.Store(false)
	errs := []error{endpoint.remove(h.config().DataDir)}
	var all sync.WaitGroup
	results := make(chan error, len(h.servers))
	for _, s := range h.servers {
		all.Go(func() { results <- shut(s) })
	}
	all.Wait()
	for range h.servers {
		errs = append(errs, <-results)
	}
	h.down()
	return errors.Join(errs...)
}
