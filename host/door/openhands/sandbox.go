package openhands

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// work is a port of a sandbox under a name of its own, as clients build URLs for it in path mode.
type work struct {
	path string
	port int
}

func works() []work { return []work{{"/work-1", 12000}, {"/work-2", 12001}} }

func workHosts(url string) map[string]int {
	out := map[string]int{}
	for _, w := range works() {
		out[url+w.path] = w.port
	}
	return out
}

// Sandboxes is the handler of the sandboxes' listener: /RUNTIME_ID/... is the V0 protocol, but for the ports, which are next's.
func (d *Door) Sandboxes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		if id == "" || strings.HasPrefix(rest, strings.TrimPrefix(agent.PortsPath, "/")) {
			next.ServeHTTP(w, r)
			return
		}
		d.serve(w, r, id, "/"+rest)
	})
}

// serve checks the key, then the runtime's state, then does what path says. Without the key nobody learns which ids there are, but
// for the two paths that are open to all who know one.
func (d *Door) serve(w http.ResponseWriter, r *http.Request, id, path string) {
	open := v0.Open(path)
	ctx, v, err := d.open(r, id, open)
	switch {
	case err != nil && open:
		_ = v0.NotFound().Reply().Write(w)
	case err != nil:
		_ = v0.Forbidden().Reply().Write(w)
	case !clean(path):
		_ = v0.NotFound().Reply().Write(w)
	default:
		if away := absence(v); away != nil {
			_ = away.Reply().Write(w)
			return
		}
		d.route(w, r.WithContext(ctx), v, path)
	}
}

func (d *Door) open(r *http.Request, id string, open bool) (context.Context, *runtimev1.Runtime, error) {
	if open {
		return d.m.Exposed(r.Context(), id)
	}
	return d.m.Session(r.Context(), id, r.Header.Get(runtime.SessionKeyHeader))
}

// clean refuses a path that another server might take for one elsewhere: below the agent's own address there is more.
func clean(escaped string) bool {
	decoded, err := url.PathUnescape(escaped)
	if err != nil || strings.Contains(decoded, "\\") {
		return false
	}
	tidy := path.Clean(decoded)
	return decoded == tidy || decoded == tidy+"/"
}

// absence is the answer for a runtime that is not there, nil for one that is, or will be.
func absence(v *runtimev1.Runtime) *v0.Failure {
	switch {
	case !live(v):
		return &v0.Failure{Status: http.StatusNotFound, Detail: "The runtime was stopped"}
	case broken(v):
		return &v0.Failure{Status: http.StatusNotFound, Detail: "The runtime is gone: " + v.GetError().GetMessage()}
	case v.GetPhase() == backendv1.Phase_PHASE_PAUSED:
		return &v0.Failure{Status: http.StatusServiceUnavailable, Detail: "The runtime is paused"}
	}
	return nil
}

func (d *Door) route(w http.ResponseWriter, r *http.Request, v *runtimev1.Runtime, path string) {
	switch path {
	case v0.PathAlive:
		d.serveAlive(w, r, v)
	case v0.PathExecuteAction:
		d.execute(w, r, v)
	case v0.PathUploadFile, v0.PathDownloadFiles:
		to, done, err := d.m.Transfer(r.Context(), v.GetId())
		if err != nil {
			fail(w, err)
			return
		}
		defer done()
		d.forward.Forward(w, r, to, below(path))
	case "/health":
		d.serveHealth(w, v)
	default:
		to, err := d.m.Files(r.Context(), v.GetId())
		if err != nil {
			fail(w, err)
			return
		}
		d.forward.Forward(w, r, to, below(path))
	}
}

// below is where the agent serves a path of the protocol, or a named port.
func below(path string) string {
	for _, w := range works() {
		if rest, ok := strings.CutPrefix(path, w.path); ok && (rest == "" || rest[0] == '/') {
			return agent.PortsPath + strconv.Itoa(w.port) + rest
		}
	}
	return strings.TrimSuffix(agent.V0Path, "/") + path
}

// serveAlive: until the sandbox is ready the answer is one that clients take for "not yet".
func (d *Door) serveAlive(w http.ResponseWriter, r *http.Request, v *runtimev1.Runtime) {
	if !admits(v) {
		notAlive(w, rterr.New(rterr.Unavailable, "", "it is starting"))
		return
	}
	if err := d.prepared(r.Context(), v); err != nil {
		notAlive(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), aliveLimit)
	defer cancel()
	to, err := d.m.Files(ctx, v.GetId())
	if err != nil {
		notAlive(w, err)
		return
	}
	d.alive.Forward(w, r.WithContext(ctx), to, below(v0.PathAlive))
}

// serveHealth is what V1's clients wait for. There is no V1 server here yet, and nobody shall wait for it.
func (d *Door) serveHealth(w http.ResponseWriter, v *runtimev1.Runtime) {
	reply(w, http.StatusNotImplemented, problem{
		Detail: "the command of this runtime was not run: " + v.GetLabels()[labelCommand], Reason: rterr.Unsupported.String(),
	})
}
