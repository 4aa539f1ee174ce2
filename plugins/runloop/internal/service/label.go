package service

import (
	"bytes"
	"encoding/json"
	"maps"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The labels of a devbox, in its metadata.
const (
	labelOwner      = "openhands-rt-owner"
	labelRuntime    = "openhands-rt-runtime"
	labelSid        = "openhands-rt-sid"
	labelIntent     = "openhands-rt-intent"
	labelGeneration = "openhands-rt-generation"
	labelPrincipal  = "openhands-rt-principal"
	labelLeaseUntil = "openhands-rt-lease-until"
	labelAgent      = "openhands-rt-agent"
	labelPort       = "openhands-rt-port"
	// labelKept: its runtime has let go of it, and another one of the same sid may take it.
	labelKept = "openhands-rt-kept"
	// labelContainer is what OpenHands' own runtime calls it.
	labelContainer = "container-name"
)

// labels returns the metadata of a devbox for a runtime; base is what is there already.
func (set *settings) labels(req *backendv1.ConnectRequest, base map[string]string, until time.Time) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, req.GetSpec().GetLabels())
	maps.Copy(out, map[string]string{
		labelOwner: set.owner, labelRuntime: req.GetRuntimeId(), labelSid: req.GetSid(), labelIntent: req.GetIntentId(),
		labelGeneration: strconv.FormatUint(req.GetGeneration(), 10), labelPrincipal: req.GetPrincipal(),
		labelLeaseUntil: until.UTC().Format(time.RFC3339Nano), labelAgent: set.Agent, labelPort: strconv.Itoa(set.Port),
		labelContainer: "openhands-runtime-" + req.GetSid(),
	})
	delete(out, labelKept)
	return out
}

// handleSchema is the number of opaque's schema; maxOpaque its largest size in bytes.
const (
	handleSchema = 1
	maxOpaque    = 64 << 10
)

// opaque is what a handle holds beside the devbox's id.
type opaque struct {
	// Agent is the mode, Port that of the agent.
	Agent string `json:"agent"`
	Port  int    `json:"port"`
}

func (set *settings) handleOf(view *api.DevboxView) (*backendv1.Handle, error) {
	port, err := strconv.Atoi(view.Metadata[labelPort])
	if err != nil {
		port = set.Port
	}
	agent := view.Metadata[labelAgent]
	if agent == "" {
		agent = set.Agent
	}
	raw, err := json.Marshal(opaque{Agent: agent, Port: port})
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "encode handle", err)
	}
	return &backendv1.Handle{Schema: handleSchema, Backend: set.backend, SandboxId: view.ID, Opaque: raw}, nil
}

// checkHandle checks a handle; it does not look whether there is such a devbox.
func checkHandle(h *backendv1.Handle) error {
	const op = "decode handle"
	var o opaque
	switch {
	case h == nil:
		return rterr.Invalid(op, "handle", "is required")
	case h.GetSchema() != handleSchema:
		return rterr.New(rterr.Integrity, op, "the handle has schema %d, known is %d", h.GetSchema(), handleSchema)
	case h.GetSandboxId() == "":
		return rterr.Invalid(op, "handle.sandbox_id", "is required")
	case len(h.GetOpaque()) > maxOpaque:
		return rterr.New(rterr.Integrity, op, "the handle has %d bytes", len(h.GetOpaque()))
	}
	d := json.NewDecoder(bytes.NewReader(h.GetOpaque()))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil || o.Agent == "" || o.Port < 0 || o.Port > 65535 {
		return rterr.New(rterr.Integrity, op, "the handle cannot be read").WithCause(err)
	}
	return nil
}

// listed returns a devbox for a list.
func (set *settings) listed(view *api.DevboxView) (*backendv1.ListedSandbox, error) {
	h, err := set.handleOf(view)
	if err != nil {
		return nil, err
	}
	generation, _ := strconv.ParseUint(view.Metadata[labelGeneration], 10, 64) // Somebody changed it: 0, unknown.
	one := &backendv1.ListedSandbox{
		Handle: h, Phase: phaseOf(view), Owner: view.Metadata[labelOwner], RuntimeId: view.Metadata[labelRuntime],
		Sid: view.Metadata[labelSid], IntentId: view.Metadata[labelIntent], Generation: generation,
		CreatedAt: timestamppb.New(time.UnixMilli(view.CreateTimeMs)),
	}
	if until, err := time.Parse(time.RFC3339Nano, view.Metadata[labelLeaseUntil]); err == nil {
		one.LeaseUntil = timestamppb.New(until)
	}
	return one, nil
}

// phaseOf maps a devbox's status. One that boots again after it was suspended is paused until it runs.
func phaseOf(view *api.DevboxView) backendv1.Phase {
	switch view.Status {
	case api.DevboxStatusRunning, api.DevboxStatusSuspending:
		return backendv1.Phase_PHASE_RUNNING
	case api.DevboxStatusSuspended, api.DevboxStatusResuming:
		return backendv1.Phase_PHASE_PAUSED
	case api.DevboxStatusFailure, api.DevboxStatusShutdown:
		return backendv1.Phase_PHASE_GONE
	}
	for _, t := range view.StateTransitions {
		if t.Status != nil && *t.Status == api.DevboxStatusSuspended {
			return backendv1.Phase_PHASE_PAUSED
		}
	}
	return backendv1.Phase_PHASE_CREATING
}

func ended(view *api.DevboxView) bool { return phaseOf(view) == backendv1.Phase_PHASE_GONE }

// why says how a devbox ended, in Runloop's own words.
func why(view *api.DevboxView) string {
	text := string(view.Status)
	if view.FailureReason != nil {
		text += ": " + string(*view.FailureReason)
	}
	if view.ShutdownReason != nil {
		text += ": " + string(*view.ShutdownReason)
	}
	for _, t := range view.StateTransitions {
		if t.FailureReason != nil && *t.FailureReason != "" {
			text += ": " + *t.FailureReason
		}
	}
	return text
}
