package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1/agentv1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// rpcPrefix is where the service's methods are.
const rpcPrefix = "/" + agentv1connect.AgentServiceName + "/"

func (s *Server) routes() http.Handler {
	_, rpc := agentv1connect.NewAgentServiceHandler(&service{s},
		connect.WithReadMaxBytes(maxUnary),
		connect.WithInterceptors(errorMapper{}),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, cause any) error {
			return s.panicked(spec.Procedure, cause)
		}),
	)
	mux := http.NewServeMux()
	mux.Handle(rpcPrefix, flushing(rpc))
	mux.Handle(agent.FilesPath, s.cfg.Files)
	mux.Handle(agent.PortsPath, s.cfg.Ports)
	mux.Handle(agent.V0Path, s.trustedV0())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		rthttp.Write(w, rterr.New(rterr.NotFound, r.Method+" "+r.URL.Path, "an agent has no such path"))
	})
	return mux
}

// guard checks the credential before anything of the request is read, counts the request, and survives its panics.
func (s *Server) guard(next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	refuse := func(w http.ResponseWriter, r *http.Request, err error) {
		if strings.HasPrefix(r.URL.Path, rpcPrefix) && errs.IsSupported(r) {
			_ = errs.Write(w, r, rthttp.ToConnect(err)) // the client is gone if this fails
			return
		}
		rthttp.Write(w, err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, r, rterr.New(rterr.Unauthenticated, "call the agent", "the credential is missing or wrong").
				WithRemedy("send the sandbox's credential as Authorization: Bearer").WithRan(rterr.RanNo))
			return
		}
		if !s.requests.enter() {
			refuse(w, r, stopping())
			return
		}
		defer s.requests.leave()
		defer s.survive(w, r, refuse)
		next.ServeHTTP(w, r)
	})
}

func stopping() *rterr.Error {
	return rterr.New(rterr.Unavailable, "call the agent", "it is stopping").WithRan(rterr.RanNo)
}

func (s *Server) survive(w http.ResponseWriter, r *http.Request, refuse func(http.ResponseWriter, *http.Request, error)) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause) // the way to cut an answer that has begun
	}
	refuse(w, r, s.panicked(r.URL.Path, cause))
}

// panicked logs a panic with its stack and returns what the client is told.
func (s *Server) panicked(what string, cause any) error {
	s.log.Error("panic in a request", "path", what, "panic", cause, "stack", string(debug.Stack()))
	return rterr.New(rterr.Internal, what, "a panic; the agent's log has the stack")
}

// digestBearer makes headers of every length equally long, so that the comparison takes the same time for all.
func digestBearer(header string) [32]byte { return sha256.Sum256([]byte(header)) }

func (s *Server) allowed(r *http.Request) bool {
	sum := digestBearer(r.Header.Get(agent.CredentialHeader))
	return subtle.ConstantTimeCompare(sum[:], s.bearer[:]) == 1
}

// errorMapper turns what handlers return into Connect errors with an ErrorDetail.
type errorMapper struct{}

func (errorMapper) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		resp, err := next(ctx, req)
		if err != nil {
			return nil, rthttp.ToConnect(err)
		}
		return resp, nil
	}
}

func (errorMapper) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (errorMapper) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return rthttp.ToConnect(next(ctx, conn))
	}
}

// gate counts the requests that are being answered, until it is closed and the last one has left.
type gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{}
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

// close refuses everyone from now on; the channel is closed once nobody is inside.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		if g.inside == 0 {
			close(g.empty)
		}
	}
	return g.empty
}
