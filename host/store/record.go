package store

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
)

// The schema numbers of the records. Raise one with every change that an older program would misread, and add a Migration.
const (
	metaSchema      = 1
	runtimeSchema   = 1
	principalSchema = 1
	sidSchema       = 1
	intentSchema    = 1
	actionSchema    = 1
)

// Secret is a value that is stored but never printed: every way of formatting it gives "[secret]". JSON has the value.
type Secret string

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// String returns "[secret]", or nothing for an empty value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[secret]"
}

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// Format is String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// Runtime is the durable record of one runtime.
type Runtime struct {
	// ID is a lower-case DNS label, for the runtime's whole life.
	ID string `json:"id"`
	// Principal is the id of the one who made it.
	Principal string           `json:"principal"`
	SID       string           `json:"sid"`
	Backend   string           `json:"backend"`
	Status    lifecycle.Status `json:"status"`
	// Phase is the number of backend.v1 Phase.
	Phase int32 `json:"phase"`
	// Message of the last status, for people.
	Message string `json:"message,omitempty"`
	// Generation counts the sandboxes that it has had.
	Generation uint64 `json:"generation"`
	SandboxID  string `json:"sandbox_id,omitempty"`
	// Handle is backend.v1 Handle, marshalled.
	Handle []byte `json:"handle,omitempty"`
	// IntentID of the creation of the present sandbox.
	IntentID        string `json:"intent_id,omitempty"`
	AgentCredential Secret `json:"agent_credential,omitempty"`
	SessionKey      Secret `json:"session_key,omitempty"`
	// Spec is backend.v1 SandboxSpec as JSON. It may hold secrets in env: never print it.
	Spec json.RawMessage `json:"spec,omitempty"`
	// Capabilities is backend.v1 Capabilities as JSON.
	Capabilities json.RawMessage   `json:"capabilities,omitempty"`
	Lease        time.Duration     `json:"lease,omitempty"`
	LeaseUntil   time.Time         `json:"lease_until,omitzero"`
	Labels       map[string]string `json:"labels,omitempty"`
	Workspace    string            `json:"workspace,omitempty"`
	Home         string            `json:"home,omitempty"`
	Username     string            `json:"username,omitempty"`
	// Host is the owner id of the host that answers for it.
	Host string `json:"host,omitempty"`
	// Keep: its sandbox is left to its lease when it stops.
	Keep bool `json:"keep,omitempty"`
	// Error is agent.v1 ErrorDetail as JSON.
	Error     json.RawMessage `json:"error,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
	StoppedAt time.Time       `json:"stopped_at,omitzero"`
}

// Principal is someone who may ask.
type Principal struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	// KeyHash of the API key; the key itself is not stored.
	KeyHash   string    `json:"key_hash"`
	Disabled  bool      `json:"disabled,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// SID says which runtime a principal's session id means.
type SID struct {
	RuntimeID string    `json:"runtime_id"`
	CreatedAt time.Time `json:"created_at"`
}

// IntentState is how far a creation has come.
type IntentState string

// The states of an intent.
const (
	// IntentOpen: the provider may or may not have made the sandbox.
	IntentOpen IntentState = "open"
	// IntentDone: the handle is in the runtime's record.
	IntentDone IntentState = "done"
)

// Intent is written before a sandbox is made, so that after a crash it can be found by owner and intent.
type Intent struct {
	ID         string      `json:"id"`
	RuntimeID  string      `json:"runtime_id"`
	Principal  string      `json:"principal"`
	Backend    string      `json:"backend"`
	Generation uint64      `json:"generation"`
	State      IntentState `json:"state"`
	CreatedAt  time.Time   `json:"created_at"`
}

// MaxObservation is the most of an observation's bytes that the index keeps.
const MaxObservation = 64 << 10

// Action is the host's index entry of an action. The agent's record is the authority.
type Action struct {
	ID         string `json:"id"`
	RuntimeID  string `json:"runtime_id"`
	Generation uint64 `json:"generation"`
	Principal  string `json:"principal"`
	Kind       string `json:"kind"`
	Digest     string `json:"digest,omitempty"`
	// State and Outcome are the numbers of agent.v1 ActionState and Outcome.
	State     int32         `json:"state"`
	Outcome   int32         `json:"outcome,omitempty"`
	ExitCode  *int32        `json:"exit_code,omitempty"`
	Summary   string        `json:"summary,omitempty"`
	Timeout   time.Duration `json:"timeout,omitempty"`
	Pid       int64         `json:"pid,omitempty"`
	CreatedAt time.Time     `json:"created_at"`
	// StartedAt and FinishedAt are zero until then.
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// Observation is agent.v1 Observation, marshalled. A larger one than MaxObservation is left out, and ObservationDropped set.
	Observation        []byte `json:"observation,omitempty"`
	ObservationDropped bool   `json:"observation_dropped,omitempty"`
	// Answered: the client has the observation, as far as its door can tell.
	Answered bool `json:"answered,omitempty"`
}

// Done reports whether the action's observation is final.
func (a *Action) Done() bool { return !a.FinishedAt.IsZero() || a.Outcome != 0 }

// Meta is what the store knows of the installation itself.
type Meta struct {
	// Owner is the stable id of this installation, the label on every sandbox.
	Owner     string    `json:"owner"`
	CreatedAt time.Time `json:"created_at"`
}
