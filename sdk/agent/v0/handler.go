package v0

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0/repeat"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Executor runs actions; sdk/agent/engine is one. The rules are those of agent.v1 Execute: send gets the action's events, the
// observation last, from one goroutine at a time.
type Executor interface {
	Execute(ctx context.Context, req *agentv1.ExecuteRequest, send func(*agentv1.ActionEvent) error) error
}

// Config is all that a Handler needs.
type Config struct {
	// Executor and Files are required; they are not closed.
	Executor Executor
	Files    *files.Service
	// Key is the session key, sent as KeyHeader. Empty means that no key is asked for.
	Key string
	// Ready returns why the sandbox cannot do anything now, nil if it can: asked by every path but /server_info. May be nil.
	Ready func() error
	// StartedAt is what uptime is counted from; zero means the moment of New.
	StartedAt time.Time
	// Logger may be nil.
	Logger hclog.Logger
}

// Handler serves the protocol for one sandbox. Its actions run one at a time, in the order of their arrival; one that runs goes on
// when its client has gone, one that still waits is dropped then. A request that is sent again because its connection was cut does
// not run again, if the server listens through Listener.
type Handler struct {
	cfg   Config
	log   hclog.Logger
	key   [32]byte
	turns turns
	stats *stats
	// asked are the requests whose answers may still be missed.
	asked *repeat.Table

	mu     sync.Mutex
	closed bool
	// running are the ends of what must not outlive the handler.
	running map[*context.CancelFunc]struct{}
}

// New returns a handler. Errors are InvalidArgument naming the field.
func New(cfg Config) (*Handler, error) {
	const op = "new V0 handler"
	switch {
	case cfg.Executor == nil:
		return nil, rterr.Invalid(op, "executor", "is required")
	case cfg.Files == nil:
		return nil, rterr.Invalid(op, "files", "is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.StartedAt.IsZero() {
		cfg.StartedAt = time.Now()
	}
	if cfg.Ready == nil {
		cfg.Ready = func() error { return nil }
	}
	return &Handler{
		cfg: cfg, log: cfg.Logger, key: sha256.Sum256([]byte(cfg.Key)),
		asked: repeat.NewTable(), stats: newStats(cfg.StartedAt), running: map[*context.CancelFunc]struct{}{},
	}, nil
}

// Listener returns l with connections that tell whether an answer has arrived. The http.Server needs ConnContext, and no HTTP/2.
func (h *Handler) Listener(l net.Listener) net.Listener { return repeat.Listener(l, h.asked) }

// ConnContext is for the http.Server that serves Listener's.
func ConnContext(ctx context.Context, c net.Conn) context.Context { return repeat.ConnContext(ctx, c) }

// Close ends the wait for actions; what runs is the executor's to end. Their requests are answered, later ones refused.
func (h *Handler) Close() {
	h.mu.Lock()
	h.closed = true
	for cancel := range h.running {
		(*cancel)()
	}
	h.mu.Unlock()
	h.asked.Close()
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !Open(r.URL.Path) && !h.allowed(r) {
		h.reply(w, r, Forbidden().Reply())
		return
	}
	h.serve(w, r)
}

// Trusted serves the same without asking for the key: for a path that is guarded otherwise.
func (h *Handler) Trusted() http.Handler { return http.HandlerFunc(h.serve) }

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	defer h.survive(w, r)
	method, serve := h.route(r.URL.Path)
	switch {
	case serve == nil:
		h.reply(w, r, NotFound().Reply())
	case r.Method != method:
		h.reply(w, r, MethodNotAllowed(method).Reply())
	default:
		h.begin(w, r, serve)
	}
}

// begin serves a request if the sandbox is there for it.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request)) {
	if r.URL.Path != PathServerInfo {
		if err := h.cfg.Ready(); err != nil {
			h.reply(w, r, FailureOf(err).Reply())
			return
		}
	}
	serve(w, r)
}

// route returns the method and the function of a path, nil for an unknown one.
func (h *Handler) route(path string) (string, func(http.ResponseWriter, *http.Request)) {
	switch path {
	case PathAlive:
		return http.MethodGet, h.alive
	case PathServerInfo:
		return http.MethodGet, h.serverInfo
	case PathExecuteAction:
		return http.MethodPost, h.execute
	case PathUpdateMCP:
		return http.MethodPost, h.updateMCP
	case PathUploadFile:
		return http.MethodPost, h.upload
	case PathDownloadFiles:
		return http.MethodGet, h.download
	case PathListFiles:
		return http.MethodPost, h.list
	case PathConnectionToken:
		return http.MethodGet, h.connectionToken
	}
	return "", nil
}

func (h *Handler) allowed(r *http.Request) bool {
	if h.cfg.Key == "" {
		return true
	}
	sum := sha256.Sum256([]byte(r.Header.Get(KeyHeader))) // of equal length, so that the comparison takes the same time for all
	return subtle.ConstantTimeCompare(sum[:], h.key[:]) == 1
}

// survive answers for a panic, whose stack goes to the log.
func (h *Handler) survive(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause) // the way to cut an answer that has begun
	}
	h.log.Error("panic in a request", "path", r.URL.Path, "panic", cause, "stack", string(debug.Stack()))
	h.reply(w, r, Unexpected().Reply())
}

// reply answers. A client that has gone is no concern of this handler's.
func (h *Handler) reply(w http.ResponseWriter, r *http.Request, reply Reply) {
	if f := reply.failure; f != nil && f.Status >= http.StatusInternalServerError {
		h.log.Info("refused", "path", r.URL.Path, "status", f.Status, "error", f)
	}
	if err := reply.Write(w); err != nil {
		h.log.Debug("an answer could not be sent", "path", r.URL.Path, "error", err)
	}
}

func (h *Handler) alive(w http.ResponseWriter, r *http.Request) {
	h.reply(w, r, OK(map[string]string{"status": "ok"}))
}

func (h *Handler) connectionToken(w http.ResponseWriter, r *http.Request) {
	h.reply(w, r, OK(map[string]any{"token": nil}))
}

func (h *Handler) serverInfo(w http.ResponseWriter, r *http.Request) {
	h.reply(w, r, OK(h.stats.info(h.cfg.Files)))
}

// list answers /list_files. A body that is no JSON object is a 422; whatever is wrong with the path is an empty list.
func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	path, err := decodeList(r.Body)
	if err != nil {
		h.reply(w, r, FailureOf(err).Reply())
		return
	}
	names, err := h.cfg.Files.Names(r.Context(), path)
	if err != nil {
		h.log.Debug("nothing to list", "error", err)
	}
	if names == nil {
		names = []string{}
	}
	h.reply(w, r, OK(names))
}
