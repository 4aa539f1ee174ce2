package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Server is an emulator that runs. Its methods may be called from any goroutine.
type Server struct {
	config  Config
	log     hclog.Logger
	routes  router
	replays replays
	folder  *folder

	api, tunnels *http.Server
	apiAt        net.Addr
	tunnelsAt    net.Addr

	// running ends with Close; everything that the emulator does by itself does it within, and is counted by work.
	running context.Context //nolint:containedctx // It is the life of the server, not of a call.
	stop    context.CancelFunc
	work    sync.WaitGroup

	mu    sync.Mutex
	chaos *chaos
	state state
}

// Start starts an emulator; ctx bounds the start alone. The caller closes it.
func Start(ctx context.Context, config Config) (*Server, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, log: config.Log, chaos: newChaos(config.Seed, config.Faults), state: newState()}
	//nolint:gosec // Close calls stop.
	s.running, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if s.folder, err = makeFolder(config.DataDir); err != nil {
		return nil, err
	}
	s.addRoutes()
	if err := s.listen(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context) error {
	var listen net.ListenConfig
	api, err := listen.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return rterr.New(rterr.Unavailable, "start the emulator", "%v", err).WithRemedy("choose another address: --listen")
	}
	tunnels, err := listen.Listen(ctx, "tcp", s.config.TunnelListen)
	if err != nil {
		_ = api.Close()
		return rterr.New(rterr.Unavailable, "start the emulator", "%v", err).WithRemedy("choose another address: --tunnel-listen")
	}
	s.apiAt, s.tunnelsAt = api.Addr(), tunnels.Addr()
	s.api = s.serve(api, s.serveAPI)
	s.tunnels = s.serve(tunnels, s.serveTunnel)
	return nil
}

// serve serves HTTP/1 and, without TLS and by prior knowledge, HTTP/2.
func (s *Server) serve(at net.Listener, handler http.HandlerFunc) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: handler, Protocols: protocols, ReadHeaderTimeout: headerWait,
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 1000},
		BaseContext: func(net.Listener) context.Context { return s.running },
		ErrorLog:    s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	s.work.Go(func() {
		if err := server.Serve(at); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the emulator stopped serving", "error", err)
		}
	})
	return server
}

// Close ends every devbox and removes their disks. It may be called again.
func (s *Server) Close() {
	// Requests that are held end with the server's context.
	s.stop()
	for _, server := range []*http.Server{s.api, s.tunnels} {
		if server == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), shutdownWait)
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		cancel()
	}
	s.mu.Lock()
	all := s.state.devboxes.list()
	s.mu.Unlock()
	var ends sync.WaitGroup
	for _, d := range all {
		ends.Go(func() { s.endProcesses(d) })
	}
	ends.Wait()
	s.work.Wait()
	s.folder.remove()
}

// URL returns the base URL of the API.
func (s *Server) URL() string { return "http://" + s.apiAt.String() }

// Key returns the key that is accepted.
func (s *Server) Key() string { return s.config.Key }

// TunnelTemplate returns the URL of a devbox's port, to be filled in for {port} and {key}: what lies behind it is the root of the port.
// The same listener also serves http://{port}-{key}.ANYTHING by the Host header.
func (s *Server) TunnelTemplate() string {
	return "http://" + s.tunnelsAt.String() + "/{port}-{key}"
}

// Stats counts devboxes.
type Stats struct {
	// Created is how many were made, Ended how many of them have come to an end, and Alive how many have not.
	Created int `json:"created"`
	Ended   int `json:"ended"`
	Alive   int `json:"alive"`
	// Snapshots is how many there are, Requests how many were served, Faults how many faults hit.
	Snapshots int `json:"snapshots"`
	Requests  int `json:"requests"`
	Replayed  int `json:"replayed"`
	Faults    int `json:"faults"`
}

// String is the line that is printed when the emulator ends.
func (t Stats) String() string {
	return fmt.Sprintf("%d devboxes made, %d ended, %d not ended; %d snapshots; %d requests, %d answered again, %d faults",
		t.Created, t.Ended, t.Alive, t.Snapshots, t.Requests, t.Replayed, t.Faults)
}

// Stats returns the present counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.state.stats
	for _, d := range s.state.devboxes.list() {
		t.Created++
		if d.status.terminal() {
			t.Ended++
		}
	}
	t.Alive = t.Created - t.Ended
	for _, p := range s.state.snapshots.list() {
		if p.status == snapshotComplete {
			t.Snapshots++
		}
	}
	return t
}

// SetFaults replaces the faults; draws begin anew.
func (s *Server) SetFaults(faults Faults) error {
	if err := faults.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chaos = newChaos(s.config.Seed, faults)
	return nil
}

// SetKey changes the key that is accepted; the old one is refused from now on.
func (s *Server) SetKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.key = key
}

// pause waits for a duration of the configuration; the error is that of a context that ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
