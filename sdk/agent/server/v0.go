package server

import (
	"context"
	"net/http"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// newV0 makes the face of OpenHands' V0 protocol.
func (s *Server) newV0() (*v0.Handler, error) {
	return v0.New(v0.Config{
		Executor: executor{s}, Files: s.cfg.Files, Key: s.cfg.DirectKey, Ready: s.ready,
		StartedAt: s.cfg.Identity.StartedAt, Logger: s.log.Named("v0"),
	})
}

// executor is the engine behind the check that every new action has to pass.
type executor struct{ s *Server }

// Execute implements v0.Executor.
func (e executor) Execute(ctx context.Context, req *agentv1.ExecuteRequest, send func(*agentv1.ActionEvent) error) error {
	if err := e.s.checkNew(req.GetAction().GetId()); err != nil {
		return err
	}
	return e.s.cfg.Engine.Execute(ctx, req, send)
}

// ready returns why nothing can be done now.
func (s *Server) ready() error {
	switch {
	case s.ending.Load():
		return stopping()
	case s.frozen.Load():
		return rterr.New(rterr.SandboxPaused, "", "the sandbox is frozen").WithRan(rterr.RanNo)
	}
	return nil
}

// trustedV0 serves agent.V0Path.
func (s *Server) trustedV0() http.Handler {
	return http.StripPrefix(strings.TrimSuffix(agent.V0Path, "/"), s.v0.Trusted())
}

// directServer serves the direct listener.
func (s *Server) directServer(base context.Context) *http.Server {
	web := s.webServer(base, s.direct())
	web.Protocols.SetUnencryptedHTTP2(false) // it would hide what becomes of an answer
	web.ConnContext = v0.ConnContext
	return web
}

// direct counts the requests of the direct listener, as guard does those of the other.
func (s *Server) direct() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.requests.enter() {
			_ = v0.FailureOf(stopping()).Reply().Write(w) // the client is gone if this fails
			return
		}
		defer s.requests.leave()
		s.v0.ServeHTTP(w, r)
	})
}
