package openhands

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The labels of runtimes that this door has started.
const (
	labelDoor       = "openhands.protocol" // its value: doorV0 or doorOther
	labelImage      = "openhands.image"
	labelCommand    = "openhands.command"
	labelWorkingDir = "openhands.working_dir"
	doorV0          = "v0"
	doorOther       = "other"
	// maxLabel bounds what is kept of a command or image's name.
	maxLabel = 2 << 10
)

// The no-change timeout of run actions: the default of OpenHands' own server.
const (
	noChangeVariable = "NO_CHANGE_TIMEOUT_SECONDS"
	noChangeDefault  = "10"
)

// startRequest is the body of /start that counts, of both generations. image names nothing here; run_as_user, run_as_group,
// fs_group, image_pull_policy, runtime_class and resource_factor are the business of a cluster, and ignored like all that is unknown.
type startRequest struct {
	Image       string                     `json:"image"`
	Command     json.RawMessage            `json:"command"`
	Environment map[string]json.RawMessage `json:"environment"`
	SessionID   string                     `json:"session_id"`
}

// start makes the runtime of a session, or finds it. It waits a little, for a client that finds it ready does not sleep.
func (d *Door) start(w http.ResponseWriter, r *http.Request) {
	var body startRequest
	if err := decode(w, r, &body); err != nil {
		refuse(w, err)
		return
	}
	spec, err := body.spec()
	if err != nil {
		refuse(w, err)
		return
	}
	v, err := d.claim(r.Context(), body.SessionID, spec)
	if err != nil {
		refuse(w, err)
		return
	}
	if spec.GetLabels()[labelDoor] == doorOther {
		d.opts.Logger.Warn("a runtime was started without running the command that its client asked for",
			"runtime", v.GetId(), "sid", v.GetSid(), "command", spec.GetLabels()[labelCommand])
	}
	d.awaitReady(r.Context(), v.GetId())
	if id, err := d.withoutName(r.Context(), v.GetId(), body.SessionID, spec); err != nil {
		refuse(w, err)
	} else {
		d.show(w, r, id)
	}
}

// withoutName starts a runtime anew whose backend cannot call the user as the client asked: OpenHands always asks, and works under
// any name. It returns the runtime's id.
func (d *Door) withoutName(ctx context.Context, id, sid string, spec *backendv1.SandboxSpec) (string, error) {
	v, err := d.byID(ctx, id)
	if err != nil || spec.GetUsername() == "" || !broken(v) || v.GetError().GetField() != "spec.username" {
		return id, err
	}
	d.opts.Logger.Info("the sandbox's user has another name than the client asked for", "runtime", id, "sid", sid, "error", v.GetError().GetMessage())
	spec.Username = ""
	if v, err = d.claim(ctx, sid, spec); err != nil {
		return "", err
	}
	d.awaitReady(ctx, v.GetId())
	return v.GetId(), nil
}

// claim finds or makes the session's runtime. One that cannot come back by itself makes room for a new one.
func (d *Door) claim(ctx context.Context, sid string, spec *backendv1.SandboxSpec) (*runtimev1.Runtime, error) {
	if old, err := d.bySid(ctx, sid); err == nil && broken(old) {
		if _, err := d.m.Stop(ctx, old.GetId(), false); err != nil {
			return nil, err
		}
	}
	v, _, err := d.m.Create(ctx, &runtimev1.CreateRuntimeRequest{Sid: sid, Spec: spec, AttachToExisting: true})
	return v, err
}

// broken: live, and of no use.
func broken(v *runtimev1.Runtime) bool {
	switch v.GetStatus() {
	case backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR:
		return true
	case backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR_RUNTIME_DISCONNECTED:
		return lost(v)
	default:
		return false
	}
}

func lost(v *runtimev1.Runtime) bool {
	return v.GetPhase() == backendv1.Phase_PHASE_GONE || v.GetPhase() == backendv1.Phase_PHASE_FAILED
}

var errSettled = errors.New("nothing more is to be waited for")

// awaitReady blocks until the runtime is ready or has failed, at most for startWait.
func (d *Door) awaitReady(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	// However it ends, the answer says where the runtime stands.
	_ = d.m.Watch(ctx, id, func(ev *runtimev1.WatchRuntimeResponse) error {
		switch ev.GetRuntime().GetStatus() {
		case backendv1.RuntimeStatus_RUNTIME_STATUS_READY, backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR:
			return errSettled
		default:
			return nil
		}
	})
}

// spec is the sandbox that the request asks for.
func (s *startRequest) spec() (*backendv1.SandboxSpec, error) {
	command := v0.Command{}
	if len(s.Command) > 0 && string(s.Command) != "null" {
		var err error
		if command, err = v0.ParseCommand(s.Command); err != nil {
			return nil, rterr.Wrap(rterr.InvalidArgument, "start", err)
		}
	}
	env, err := s.env()
	if err != nil {
		return nil, err
	}
	spec := &backendv1.SandboxSpec{Env: env, Labels: map[string]string{
		labelDoor: doorV0, labelImage: clip(s.Image), labelCommand: clip(strings.Join(command.Words, " ")),
	}}
	if !command.ActionServer() && len(command.Words) > 0 {
		spec.Labels[labelDoor] = doorOther
		return spec, nil
	}
	spec.Labels[labelWorkingDir] = command.WorkingDir
	spec.Features, spec.Username = command.Plugins, command.Username
	spec.HeadlessMode = !slices.Contains(command.Plugins, "vscode")
	for _, name := range command.Plugins {
		if !slices.Contains(knownPlugins(), name) {
			return nil, rterr.Invalid("start", "command", "Plugin %s not found", name)
		}
	}
	return spec, nil
}

func knownPlugins() []string { return []string{"agent_skills", "jupyter", "vscode"} }

// env is the environment; values that are no strings are taken as they are written, null is left out.
func (s *startRequest) env() (map[string]string, error) {
	env := map[string]string{noChangeVariable: noChangeDefault}
	for name, raw := range s.Environment {
		if string(raw) == "null" {
			continue
		}
		value := string(raw)
		if raw[0] == '"' {
			if err := json.Unmarshal(raw, &value); err != nil {
				return nil, rterr.Invalid("start", "environment."+name, "%v", err)
			}
		}
		if raw[0] == '{' || raw[0] == '[' || name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return nil, rterr.Invalid("start", "environment."+name, "is no variable")
		}
		env[name] = value
	}
	return env, nil
}

func clip(text string) string {
	if len(text) <= maxLabel {
		return text
	}
	return strings.ToValidUTF8(text[:maxLabel], "")
}
