// Package server serves the sandbox agent's protocol: agent.v1 AgentService with Connect, and beside it files and ports over
// plain HTTP. It owns the credential check, the lease, and the end of the sandbox; what runs actions is behind Engine.
//
// sdk/agent/boot and tests build it; it imports neither go-plugin, grpc, koanf nor NATS.
package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/agent/ports"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// The waits and bounds of this package.
const (
	// heartbeatEvery is how long a stream stays quiet before it shows that it lives.
	heartbeatEvery = 10 * time.Second
	// firstMoment is how long the first events of a stream may wait for the next, to go out together.
	firstMoment = time.Millisecond
	// drainTimeout is how long requests may go on answering once the tree is dead.
	drainTimeout = time.Second
	// engineCloseTimeout bounds the writing of the last records.
	engineCloseTimeout = 5 * time.Second
	// headerTimeout bounds how long a connection may take to send a request's headers.
	headerTimeout = 10 * time.Second
	// idleTimeout closes connections that nobody uses; longer than the client keeps them.
	idleTimeout = 5 * time.Minute
	// maxUnary is the largest message of a request or an answer.
	maxUnary = 8 << 20
	// maxHeaders bounds a request's headers.
	maxHeaders = 64 << 10
	// maxInput is the largest piece of input.
	maxInput = 1 << 20
	// defaultListed and maxListed bound ListActions.
	defaultListed, maxListed = 100, 1000
)

// ErrLeaseEnded is what Serve returns when the lease was not renewed in time.
var ErrLeaseEnded = errors.New("the lease ended")

// Engine runs actions; sdk/agent/engine is the one. The rules of each method are those of the RPC of its name in agent.v1.
// send is called from one goroutine at a time, never after the method has returned, and its error ends the stream.
type Engine interface {
	Kinds() []string
	Execute(ctx context.Context, req *agentv1.ExecuteRequest, send func(*agentv1.ActionEvent) error) error
	Attach(ctx context.Context, req *agentv1.AttachRequest, send func(*agentv1.ActionEvent) error) error
	Interrupt(ctx context.Context, id string, level agentv1.InterruptLevel) (signalled bool, err error)
	Input(ctx context.Context, req *agentv1.InputRequest) (next uint64, err error)
	Resize(req *agentv1.ResizeRequest) error
	Get(id string) (*agentv1.ActionRecord, error)
	List(active bool, limit int) []*agentv1.ActionRecord
	Active() int
	Close(ctx context.Context) error
}

// Identity is what Info says of this agent; all of it was given at start.
type Identity struct {
	Nonce      string
	SandboxID  string
	RuntimeID  string
	Generation uint64
	Username   string
	Workspace  string
	Home       string
	Version    string
	// StartedAt of this process; zero means the moment of New.
	StartedAt time.Time
}

// Config is all that a server needs. Engine and Tree are used until Serve returns; Serve closes the Engine, not the Tree.
type Config struct {
	Engine Engine
	Tree   sandbox.Tree
	// Credential is what clients send as "Authorization: Bearer CREDENTIAL". Required.
	Credential string
	Identity   Identity
	// Lease runs from the start of Serve; zero means none until one is set by RenewLease.
	Lease time.Duration
	// Files serves /files and the file RPCs. Required; Serve does not close it.
	Files *files.Service
	// Ports serves /ports/; nil means ports on 127.0.0.1.
	Ports http.Handler
	// Direct, if not nil, is for clients of OpenHands' V0 protocol that speak to the sandbox itself, with DirectKey as their session
	// key, which must not be empty then. Serve closes it.
	Direct    net.Listener
	DirectKey string
	// Logger may be nil.
	Logger hclog.Logger
}

// Server is one agent's face. Build it with New, run it once with Serve.
type Server struct {
	cfg      Config
	log      hclog.Logger
	bearer   [32]byte
	lease    *lease
	requests *gate
	v0       *v0.Handler

	frozen   atomic.Bool
	freezing sync.Mutex

	ending   atomic.Bool
	endOnce  sync.Once
	killed   int
	endErr   error
	shutdown chan struct{}
	once     sync.Once
}

// New returns a server. No I/O. Errors are InvalidArgument naming the field.
func New(cfg Config) (*Server, error) {
	const op = "new agent server"
	switch {
	case cfg.Engine == nil:
		return nil, rterr.Invalid(op, "engine", "is required")
	case cfg.Tree == nil:
		return nil, rterr.Invalid(op, "tree", "is required")
	case cfg.Files == nil:
		return nil, rterr.Invalid(op, "files", "is required")
	case cfg.Credential == "":
		return nil, rterr.Invalid(op, "credential", "is required")
	case cfg.Lease < 0:
		return nil, rterr.Invalid(op, "lease", "is negative")
	case cfg.Direct != nil && cfg.DirectKey == "":
		return nil, rterr.Invalid(op, "direct_key", "is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Ports == nil {
		cfg.Ports = ports.New(ports.Config{})
	}
	if cfg.Identity.StartedAt.IsZero() {
		cfg.Identity.StartedAt = time.Now()
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, bearer: digestBearer("Bearer " + cfg.Credential),
		lease: newLease(), requests: newGate(), shutdown: make(chan struct{}),
	}
	var err error
	s.v0, err = s.newV0()
	return s, err
}

// Serve answers on ln until Shutdown was called or ctx is done (nil), the lease ended (ErrLeaseEnded), or ln failed.
// In each case it has then killed the tree, closed the engine and ln, and ended every request and goroutine of its own.
// A tree or engine that could not be ended is joined to the error. Call it once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx)) // requests outlive ctx until the tree is dead
	defer cancel()
	web := s.webServer(base, s.Handler())
	s.lease.start(s.cfg.Lease) // before the first request, which may ask for it
	defer s.lease.stop()
	webs := []*http.Server{web}
	failed := make(chan error, 2)
	go func() { failed <- web.Serve(ln) }()
	if s.cfg.Direct != nil {
		direct := s.directServer(base)
		webs = append(webs, direct)
		go func() { failed <- direct.Serve(s.v0.Listener(s.cfg.Direct)) }()
	}

	var cause error
	select {
	case <-ctx.Done():
		s.log.Info("agent is ending: its process was told to", "cause", context.Cause(ctx))
	case <-s.shutdown:
		s.log.Info("agent is ending: shut down")
	case <-s.lease.ended:
		s.log.Warn("agent is ending: nobody renewed its lease", "lease_until", s.lease.deadline())
		cause = ErrLeaseEnded
	case cause = <-failed:
		s.log.Error("agent is ending: it cannot accept connections", "error", cause)
		failed <- nil
	}
	_, endErr := s.end()
	s.drain(cancel, webs)
	for range webs {
		if err := <-failed; err != nil && !errors.Is(err, http.ErrServerClosed) {
			cause = errors.Join(cause, err)
		}
	}
	return errors.Join(cause, endErr)
}

// drain lets requests finish, then cuts them, and returns when none is left.
func (s *Server) drain(cut context.CancelFunc, webs []*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	none := s.requests.close()
	s.v0.Close()
	select {
	case <-none:
	case <-ctx.Done():
	}
	cut()
	for _, web := range webs {
		if web.Shutdown(ctx) != nil { // it waits for answers to leave the buffers
			_ = web.Close()
		}
	}
	<-none
}

// end kills the tree and closes the engine, once; every caller gets what came of it.
func (s *Server) end() (killed int, err error) {
	s.endOnce.Do(func() {
		s.ending.Store(true)
		n, killErr := s.cfg.Tree.Kill()
		ctx, cancel := context.WithTimeout(context.Background(), engineCloseTimeout)
		defer cancel()
		closeErr := s.cfg.Engine.Close(ctx)
		// A command may have been on its way into the tree while the first round went through it.
		again, againErr := s.cfg.Tree.Kill()
		if againErr == nil {
			killErr = nil
		}
		s.killed, s.endErr = n+again, errors.Join(killErr, closeErr, againErr)
		s.frozen.Store(false)
	})
	return s.killed, s.endErr
}

// Handler returns what Serve serves, with the credential check, for use behind a listener of the caller's own. The lease, and
// Shutdown's end of the process, need Serve.
func (s *Server) Handler() http.Handler { return s.guard(s.routes()) }

func (s *Server) webServer(base context.Context, handler http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaders,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}
