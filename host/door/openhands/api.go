package openhands

import (
	"context"
	"net/http"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Register puts the runtime API on mux. Everything but /health is behind a key.
func (d *Door) Register(mux *http.ServeMux) {
	for pattern, h := range map[string]http.HandlerFunc{
		"POST /start": d.start, "POST /pause": d.pause, "POST /resume": d.resume, "POST /stop": d.stop,
		"GET /sessions/batch": d.batch, "GET /sessions/{sid}": d.session, "GET /runtime/{id}": d.runtime, "GET /list": d.list,
		"GET /registry_prefix": registryPrefix, "GET /image_exists": d.imageExists,
		"POST /build": func(w http.ResponseWriter, r *http.Request) { build(w, r, maxContext) }, "GET /build_status": buildStatus,
	} {
		mux.Handle(pattern, d.require(h))
	}
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
}

func noRuntime(ref string) error { return rterr.New(rterr.NotFound, "", "no runtime %q", ref) }

// byID finds a runtime by its id alone.
func (d *Door) byID(ctx context.Context, id string) (*runtimev1.Runtime, error) {
	if id == "" {
		return nil, noRuntime(id)
	}
	v, err := d.m.Get(ctx, id)
	if err == nil && v.GetId() != id {
		err = noRuntime(id) // somebody's sid
	}
	return v, err
}

// bySid finds the live runtime of a session, else its newest.
func (d *Door) bySid(ctx context.Context, sid string) (*runtimev1.Runtime, error) {
	if sid == "" {
		return nil, noRuntime(sid)
	}
	v, err := d.m.Get(ctx, sid)
	if err != nil || v.GetSid() == sid {
		return v, err
	}
	// The sid is the id of another session's runtime.
	all, err := d.m.List(ctx, true)
	if err != nil {
		return nil, err
	}
	var newest *runtimev1.Runtime
	for _, v := range all { // newest first
		if v.GetSid() != sid {
			continue
		}
		if live(v) {
			return v, nil
		}
		if newest == nil {
			newest = v
		}
	}
	if newest == nil {
		return nil, noRuntime(sid)
	}
	return newest, nil
}

func live(v *runtimev1.Runtime) bool {
	return v.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED
}

func (d *Door) session(w http.ResponseWriter, r *http.Request) {
	v, err := d.bySid(r.Context(), r.PathValue("sid"))
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, d.object(r.Context(), v))
}

func (d *Door) runtime(w http.ResponseWriter, r *http.Request) { d.show(w, r, r.PathValue("id")) }

func (d *Door) show(w http.ResponseWriter, r *http.Request, id string) {
	v, err := d.byID(r.Context(), id)
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, d.object(r.Context(), v))
}

// batch answers with those of the named sessions that there are.
func (d *Door) batch(w http.ResponseWriter, r *http.Request) {
	found := []*runtimev1.Runtime{}
	seen := map[string]bool{}
	for _, sid := range r.URL.Query()["ids"] {
		if v, err := d.bySid(r.Context(), sid); err == nil && !seen[v.GetId()] {
			seen[v.GetId()] = true
			found = append(found, v)
		}
	}
	reply(w, http.StatusOK, d.objects(r.Context(), found))
}

// list answers with the running ones alone: clients count every entry as one that runs.
func (d *Door) list(w http.ResponseWriter, r *http.Request) {
	all, err := d.m.List(r.Context(), false)
	if err != nil {
		refuse(w, err)
		return
	}
	running := []*object{}
	for _, o := range d.objects(r.Context(), all) {
		if o.Status == statusRunning {
			running = append(running, o)
		}
	}
	reply(w, http.StatusOK, struct {
		Runtimes []*object `json:"runtimes"`
		Total    int       `json:"total"`
	}{running, len(running)})
}

// named is the body of /pause, /resume and /stop.
type named struct {
	RuntimeID *string `json:"runtime_id"`
}

// target finds the runtime that a request names. ok is false if it was answered already: a client that never got an id closes
// with none, and would take an error for the cause of its failure.
func (d *Door) target(w http.ResponseWriter, r *http.Request, closing string) (v *runtimev1.Runtime, ok bool) {
	var body named
	if err := decode(w, r, &body); err != nil {
		refuse(w, err)
		return nil, false
	}
	if (body.RuntimeID == nil || *body.RuntimeID == "") && closing != "" {
		reply(w, http.StatusOK, map[string]string{"status": closing})
		return nil, false
	}
	id := ""
	if body.RuntimeID != nil {
		id = *body.RuntimeID
	}
	v, err := d.byID(r.Context(), id)
	if err != nil {
		refuse(w, err)
		return nil, false
	}
	return v, true
}

// pause freezes a runtime. One that has ended stays as it is.
func (d *Door) pause(w http.ResponseWriter, r *http.Request) {
	v, ok := d.target(w, r, statusPaused)
	if !ok {
		return
	}
	if live(v) {
		if _, err := d.m.Pause(r.Context(), v.GetId()); err != nil {
			refuse(w, err)
			return
		}
	}
	d.show(w, r, v.GetId())
}

func (d *Door) resume(w http.ResponseWriter, r *http.Request) {
	v, ok := d.target(w, r, "")
	if !ok {
		return
	}
	if !live(v) {
		refuse(w, noRuntime(v.GetId()))
		return
	}
	if _, err := d.m.Resume(r.Context(), v.GetId()); err != nil {
		refuse(w, err)
		return
	}
	d.show(w, r, v.GetId())
}

// stop ends a runtime. An unknown one has ended already.
func (d *Door) stop(w http.ResponseWriter, r *http.Request) {
	var body named
	if err := decode(w, r, &body); err != nil {
		refuse(w, err)
		return
	}
	id := ""
	if body.RuntimeID != nil {
		id = *body.RuntimeID
	}
	v, err := d.byID(r.Context(), id)
	switch {
	case rterr.Is(err, rterr.NotFound):
		reply(w, http.StatusOK, map[string]string{"status": statusStopped})
		return
	case err == nil:
		_, err = d.m.Stop(r.Context(), v.GetId(), false)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	d.show(w, r, id)
}
