package emulator

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (s *Server) addRoutes() {
	s.routes.on("POST /v1/devboxes", s.postDevbox)
	s.routes.on("GET /v1/devboxes", s.listDevboxes)
	s.routes.on("POST /v1/devboxes/create_and_await_running", s.postDevboxAndWait)
	s.routes.on("GET /v1/devboxes/metadata/keys", s.metadataKeys)
	s.routes.on("GET /v1/devboxes/metadata/keys/{id}/values", s.metadataValues)
	s.routes.on("GET /v1/devboxes/evictions/watch", s.watchEvictions)
	s.routes.on("GET /v1/devboxes/{id}", s.getDevbox)
	s.routes.on("POST /v1/devboxes/{id}", s.updateDevbox)
	s.routes.on("POST /v1/devboxes/{id}/shutdown", s.postShutdown)
	s.routes.on("POST /v1/devboxes/{id}/suspend", s.postSuspend)
	s.routes.on("POST /v1/devboxes/{id}/resume", s.postResume)
	s.routes.on("POST /v1/devboxes/{id}/keep_alive", s.postKeepAlive)
	s.routes.on("POST /v1/devboxes/{id}/wait_for_status", s.waitDevbox)
	s.routes.on("GET /v1/devboxes/{id}/usage", s.getUsage)
	s.routes.on("GET /v1/devboxes/{id}/logs", s.getLogs)
	s.routes.on("GET /v1/devboxes/{id}/logs/tail", s.tailLogs)
	s.routes.on("POST /v1/devboxes/{id}/create_ssh_key", s.createSSHKey)
	s.executionRoutes()
	s.fileRoutes()
	s.tunnelRoutes()
	s.tokenRoutes()
	s.snapshotRoutes()
	s.blueprintRoutes()
	s.secretRoutes()
	s.accountRoutes()
	s.recordRoutes()
}

func (s *Server) postDevbox(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, err := s.create(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.view(), nil
}

// postDevboxAndWait holds until the devbox runs or has failed, and answers with whatever it is when the hold ends.
func (s *Server) postDevboxAndWait(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, err := s.create(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.config.Holds.Devbox)
	defer cancel()
	s.awaitStatus(ctx, d, func(st status) bool { return st == running || st.terminal() })
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.view(), nil
}

// awaitStatus blocks until a devbox's status is one of those wanted, or ctx is done, and returns what it is then.
func (s *Server) awaitStatus(ctx context.Context, d *devbox, wanted func(status) bool) status {
	for {
		s.mu.Lock()
		at, changed := d.status, d.changed
		s.mu.Unlock()
		if wanted(at) {
			return at
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return at
		}
	}
}

func (s *Server) listDevboxes(_ http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	wanted := status(strings.ToLower(q.Get("status")))
	if wanted != "" && !slices.Contains(statusNames(), string(wanted)) {
		return nil, badRequest("Invalid status: %s", wanted)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(s.state.devboxes.list(), func(d *devbox) bool {
		name := q.Get("name")
		return wanted != "" && d.status != wanted || name != "" && (d.name == nil || !strings.Contains(*d.name, name))
	})
	return page(r, "devboxes", all, func(d *devbox) string { return d.id }, func(d *devbox) any { return d.view() })
}

func statusNames() []string {
	return []string{string(queued), "scheduled", string(provisioning), string(initializing), string(running), string(suspending),
		string(suspended), string(resuming), string(statusFailure), string(shutdown)}
}

func (s *Server) getDevbox(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return d.view(), nil
}

// updateDevbox changes what is given; an empty name clears it.
func (s *Server) updateDevbox(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct {
		Name     *string
		Metadata map[string]string
	}](r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if body.Name != nil {
		d.name = body.Name
		if *body.Name == "" {
			d.name = nil
		}
	}
	if body.Metadata != nil {
		d.metadata = maps.Clone(body.Metadata)
	}
	return d.view(), nil
}

func (s *Server) postShutdown(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	d, err := s.devbox(r.PathValue("id"))
	busy := err == nil && d.snapshotting > 0
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if busy && !strings.EqualFold(r.URL.Query().Get("force"), "true") {
		return nil, conflict("Devbox %s has snapshots in progress; use force=true to shut it down all the same", d.id)
	}
	s.shutDown(d, apiShutdown)
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.view(), nil
}

func (s *Server) postSuspend(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if d.status != running {
		return nil, badRequest("Devbox %s cannot be suspended: it is in state %s", d.id, d.status)
	}
	d.to(suspending)
	s.work.Go(func() { s.finishSuspend(d) })
	return d.view(), nil
}

func (s *Server) postResume(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	d, err := s.devbox(r.PathValue("id"))
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if !s.resume(d) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, badRequest("Devbox %s cannot be resumed: it is in state %s", d.id, d.status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.view(), nil
}

// resume boots a suspended devbox again, and reports whether it was one. It is shown as provisioning, not as resuming: clients' waits
// know the one and not the other; that it was resuming is in its transitions.
func (s *Server) resume(d *devbox) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.status != suspended {
		return false
	}
	d.to(resuming)
	d.to(provisioning)
	s.work.Go(func() { s.boot(d, false) })
	return true
}

func (s *Server) postKeepAlive(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if d.status.terminal() {
		return nil, badRequest("Devbox %s is in state %s", d.id, d.status)
	}
	now := time.Now()
	d.keptFrom, d.lastUse = now, now
	return struct{}{}, nil
}

func (s *Server) waitDevbox(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[waitRequest](r)
	if err != nil {
		return nil, err
	}
	if err := body.check(statusNames()...); err != nil {
		return nil, err
	}
	s.mu.Lock()
	d, err := s.devbox(r.PathValue("id"))
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), body.hold(defaultDevboxHold, s.config.Holds.Devbox))
	defer cancel()
	wanted := func(st status) bool { return body.wants(string(st)) }
	if !wanted(s.awaitStatus(ctx, d, wanted)) {
		return nil, holdEnded("Devbox %s did not reach a requested status in time", d.id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The status may have changed again since: the answer is about one that was asked for.
	v := d.view()
	if !wanted(v.Status) {
		return nil, holdEnded("Devbox %s did not stay in a requested status", d.id)
	}
	return v, nil
}

func (s *Server) metadataKeys(_ http.ResponseWriter, _ *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := map[string]bool{}
	for _, d := range s.state.devboxes.list() {
		for key := range d.metadata {
			keys[key] = true
		}
	}
	return map[string]any{"keys": append([]string{}, slices.Sorted(maps.Keys(keys))...)}, nil
}

func (s *Server) metadataValues(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := map[string]bool{}
	for _, d := range s.state.devboxes.list() {
		if value, ok := d.metadata[r.PathValue("id")]; ok {
			values[value] = true
		}
	}
	return map[string]any{"key": r.PathValue("id"), "values": append([]string{}, slices.Sorted(maps.Keys(values))...)}, nil
}

func (s *Server) getLogs(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	d, err := s.devbox(r.PathValue("id"))
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	entries, _, _ := d.logs.from(0)
	return map[string]any{"logs": append([]logEntry{}, matching(entries, q.Get("execution_id"), q.Get("shell_name"))...)}, nil
}

// tailLogs sends what is in the log and what comes, until the client goes or the devbox ends.
func (s *Server) tailLogs(w http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	d, err := s.devbox(r.PathValue("id"))
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	events := openEvents(w)
	ticker := time.NewTicker(ping)
	defer ticker.Stop()
	for at := 0; ; {
		entries, next, changed := d.logs.from(at)
		at = next
		for _, entry := range matching(entries, q.Get("execution_id"), q.Get("shell_name")) {
			if !events.send(entry) {
				return written{}, nil
			}
		}
		select {
		case <-changed:
		case <-ticker.C:
			events.write(": ping\n\n")
		case <-d.life.Done():
			return written{}, nil
		case <-r.Context().Done():
			return written{}, nil
		}
	}
}

func (s *Server) createSSHKey(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, _, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	user, _ := d.user()
	return map[string]any{
		"id": d.id, "url": strings.ToLower(d.id) + ".ssh." + strings.Split(r.Host, ":")[0], "ssh_user": user,
		"ssh_private_key": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})),
	}, nil
}
