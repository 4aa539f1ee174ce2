package emulator

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// The states of a blueprint.
const (
	blueprintQueued       = "queued"
	blueprintProvisioning = "provisioning"
	blueprintBuilding     = "building"
	blueprintFailed       = "failed"
	blueprintComplete     = "build_complete"
)

// blueprint is a disk that was prepared, and the launch parameters that devboxes made from it inherit. The server's lock guards what
// changes: status, finished, reason, deleted, env.
type blueprint struct {
	id, disk string
	params   api.BlueprintBuildParameters
	raw      map[string]any
	created  int64
	logs     *logbook

	status   string
	finished int64
	reason   string
	deleted  bool
	env      []string
}

func (b *blueprint) view() any {
	v := map[string]any{
		"id": b.id, "name": b.params.Name, "status": b.status, "state": "created", "create_time_ms": b.created, "parameters": b.raw,
		"build_finish_time_ms": nil, "failure_reason": nil, "base_blueprint_id": b.params.BaseBlueprintID,
		"containerized_services": b.raw["services"], "devbox_capabilities": []string{"unknown"}, "is_public": false,
		"metadata": b.params.Metadata,
	}
	if b.deleted {
		v["state"] = "deleted"
	}
	if b.finished > 0 {
		v["build_finish_time_ms"] = b.finished
	}
	if b.reason != "" {
		v["failure_reason"] = b.reason
	}
	return v
}

func (s *Server) blueprintRoutes() {
	s.routes.on("POST /v1/blueprints", s.postBlueprint)
	s.routes.on("GET /v1/blueprints", s.listBlueprints)
	s.routes.on("GET /v1/blueprints/list_public", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return page(r, "blueprints", []*blueprint{}, func(b *blueprint) string { return b.id }, (*blueprint).view)
	})
	s.routes.on("POST /v1/blueprints/preview", s.previewBlueprint)
	s.routes.on("GET /v1/blueprints/{id}", s.getBlueprint)
	s.routes.on("POST /v1/blueprints/{id}/delete", s.deleteBlueprint)
	s.routes.on("GET /v1/blueprints/{id}/logs", s.blueprintLogs)
}

// readBlueprint reads what is to be built, as it is and as the client wrote it.
func (s *Server) readBlueprint(r *http.Request) (*blueprint, error) {
	raw, err := decode[map[string]any](r)
	if err != nil {
		return nil, err
	}
	params, err := convert[api.BlueprintBuildParameters](raw)
	if err != nil {
		return nil, err
	}
	if params.Name == "" {
		return nil, badRequest("name is required")
	}
	if params.BaseBlueprintID != nil && params.BaseBlueprintName != nil {
		return nil, badRequest("Only one of base_blueprint_id and base_blueprint_name may be given")
	}
	if l := params.LaunchParameters; l != nil {
		checked := *l
		if err := checkLaunch(&checked); err != nil {
			return nil, err
		}
	}
	id := newID("bpt")
	return &blueprint{
		id: id, disk: s.diskOf("blueprints", id), params: params, raw: raw, created: nowMs(), logs: newLogbook(), status: blueprintQueued,
	}, nil
}

func (s *Server) postBlueprint(_ http.ResponseWriter, r *http.Request) (any, error) {
	b, err := s.readBlueprint(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	base, err := s.baseOf(b.params)
	if err != nil {
		return nil, err
	}
	for _, of := range b.params.Secrets {
		if s.secret(of) == nil {
			return nil, badRequest("Secret %s not found", of)
		}
	}
	s.state.blueprints.add(b.id, b)
	b.status = blueprintProvisioning
	view := b.view()
	s.work.Go(func() { s.build(b, base) })
	return view, nil
}

// baseOf returns the blueprint that another one begins with, nil for none. The server's lock is held.
func (s *Server) baseOf(p api.BlueprintBuildParameters) (*blueprint, error) {
	var base *blueprint
	switch {
	case p.BaseBlueprintID != nil:
		base = s.state.blueprints.byID[*p.BaseBlueprintID]
	case p.BaseBlueprintName != nil:
		base = s.newestBlueprint(*p.BaseBlueprintName)
	default:
		return nil, nil
	}
	if base == nil || base.deleted || base.status != blueprintComplete {
		return nil, badRequest("Base blueprint not found")
	}
	return base, nil
}

// newestBlueprint returns the one of a name that was built last. The server's lock is held.
func (s *Server) newestBlueprint(name string) *blueprint {
	all := s.state.blueprints.list()
	slices.Reverse(all)
	for _, b := range all {
		if b.params.Name == name && !b.deleted && b.status == blueprintComplete {
			return b
		}
	}
	return nil
}

// build makes the disk: the base's, files, repositories, the Dockerfile's steps and the set-up commands, in a devbox of its own.
func (s *Server) build(b *blueprint, base *blueprint) {
	s.mu.Lock()
	b.status = blueprintBuilding
	s.mu.Unlock()
	err := pause(s.running, s.config.Delay)
	if err == nil {
		err = s.buildSteps(b, base)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.finished = nowMs()
	if err != nil {
		b.logs.line(logEntry{Level: "error", Source: "setup_commands"}, err.Error())
		b.status, b.reason = blueprintFailed, "build_failed"
		return
	}
	b.status = blueprintComplete
}

func (s *Server) buildSteps(b *blueprint, base *blueprint) error {
	if base != nil {
		b.env = append(b.env, base.env...)
		if err := copyDisk(s.running, base.disk, b.disk); err != nil {
			return err
		}
	}
	steps, env := dockerSteps(b.params.Dockerfile)
	b.env = append(b.env, env...)
	made, err := box.Start(s.running, box.Spec{Disk: b.disk, User: "user", UID: 1000, Env: slices.Concat(b.env, s.secretEnv(b.params.Secrets))})
	if err != nil {
		return err
	}
	defer made.Stop()
	// Like a devbox, as far as its set-up is concerned.
	like := &devbox{id: b.id, logs: b.logs, life: s.running, params: api.DevboxCreateParameters{
		FileMounts: b.params.FileMounts,
	}}
	if err := s.mount(like, made, b.params.CodeMounts); err != nil {
		return err
	}
	for _, command := range append(steps, b.params.SystemSetupCommands...) {
		exit, ok := s.runLogged(like, made, "setup_commands", command)
		if !ok {
			return fmt.Errorf("the build ended early")
		}
		if exit == 0 {
			continue
		}
		if !fetches(command) {
			return fmt.Errorf("%q ended with status %d", command, exit)
		}
		b.logs.line(logEntry{Level: "warn", Source: "setup_commands"}, "the emulator goes on: what this command fetches is out of its reach")
	}
	return nil
}

func (s *Server) secretEnv(wanted map[string]string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var env []string
	for name, of := range wanted {
		if c := s.secret(of); c != nil {
			env = append(env, name+"="+c.value)
		}
	}
	return env
}

// dockerSteps returns the commands and variables of a Dockerfile's RUN and ENV lines. The image that it begins with is this machine's
// own files; other instructions have no effect.
func dockerSteps(dockerfile *string) (commands, env []string) {
	if dockerfile == nil {
		return nil, nil
	}
	whole := strings.ReplaceAll(*dockerfile, "\\\n", " ")
	for line := range strings.SplitSeq(whole, "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		switch strings.ToUpper(word) {
		case "RUN":
			commands = append(commands, rest)
		case "ENV":
			if name, value, ok := strings.Cut(rest, "="); ok {
				env = append(env, name+"="+strings.Trim(value, `"'`))
			} else if name, value, ok := strings.Cut(rest, " "); ok {
				env = append(env, name+"="+strings.TrimSpace(value))
			}
		}
	}
	return commands, env
}

// fetches reports whether a command wants something from a network that devboxes of an emulator do not have, or rights over the system
// that its build does not give.
func fetches(command string) bool {
	return regexp.MustCompile(`\b(sudo|apt|apt-get|apk|yum|dnf|pip3?|pipx|uv|npm|npx|yarn|pnpm|curl|wget|git|cargo|go|gem|useradd|adduser|mkdir|chown)\b`).
		MatchString(command)
}

func (s *Server) listBlueprints(_ http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(s.state.blueprints.list(), func(b *blueprint) bool {
		return b.deleted || q.Get("name") != "" && b.params.Name != q.Get("name") || q.Get("status") != "" && b.status != q.Get("status")
	})
	return page(r, "blueprints", all, func(b *blueprint) string { return b.id }, (*blueprint).view)
}

func (s *Server) findBlueprint(r *http.Request) (*blueprint, error) {
	b, ok := s.state.blueprints.byID[r.PathValue("id")]
	if !ok {
		return nil, notFound("Blueprint %s not found", r.PathValue("id"))
	}
	return b, nil
}

func (s *Server) getBlueprint(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.findBlueprint(r)
	if err != nil {
		return nil, err
	}
	return b.view(), nil
}

func (s *Server) deleteBlueprint(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.findBlueprint(r)
	if err != nil {
		return nil, err
	}
	for _, other := range s.state.blueprints.list() {
		if base := other.params.BaseBlueprintID; !other.deleted && base != nil && *base == b.id {
			return nil, badRequest("Blueprint %s has dependents: %s", b.id, other.id)
		}
	}
	if !b.deleted {
		b.deleted = true
		if b.status == blueprintComplete || b.status == blueprintFailed {
			s.work.Go(func() { _ = os.RemoveAll(filepath.Dir(b.disk)) })
		}
	}
	return struct{}{}, nil
}

func (s *Server) blueprintLogs(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	b, err := s.findBlueprint(r)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	entries, _, _ := b.logs.from(0)
	logs := []any{}
	for _, e := range entries {
		message := e.Message
		if message == nil {
			message = e.Cmd
		}
		if message != nil {
			logs = append(logs, map[string]any{"level": e.Level, "message": *message, "timestamp_ms": e.TimestampMs})
		}
	}
	return map[string]any{"blueprint_id": b.id, "logs": logs}, nil
}

// previewBlueprint shows the Dockerfile that a build would use.
func (s *Server) previewBlueprint(_ http.ResponseWriter, r *http.Request) (any, error) {
	b, err := s.readBlueprint(r)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	if b.params.Dockerfile != nil {
		out.WriteString(strings.TrimRight(*b.params.Dockerfile, "\n") + "\n")
	} else {
		out.WriteString("FROM runloop:runloop/starter-x86_64\n")
	}
	for _, path := range slices.Sorted(maps.Keys(b.params.FileMounts)) {
		fmt.Fprintf(&out, "COPY %s %s\n", filepath.Base(path), path)
	}
	for _, code := range b.params.CodeMounts {
		fmt.Fprintf(&out, "RUN git clone https://github.com/%s/%s /home/user/%s\n", code.RepoOwner, code.RepoName, code.RepoName)
	}
	for _, command := range b.params.SystemSetupCommands {
		fmt.Fprintf(&out, "RUN %s\n", command)
	}
	return map[string]any{"dockerfile": out.String()}, nil
}
