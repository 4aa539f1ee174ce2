// Package runtime holds the runtimes of one host: who they belong to, where they stand, what runs in them. It decides what a
// principal may, when an action runs, and what becomes of a runtime when its sandbox does not answer.
//
// Doors translate and call Manager. What it needs from others it declares here: a registry, a journal, an event log, backends,
// metrics. It knows no store, no plugin launcher and no protocol of a door.
package runtime

import (
	"context"
	"time"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Record is what the host keeps of a runtime.
type Record struct {
	// Principal is the id of the owner.
	Principal string
	// IntentID is the idempotency key of the present generation's creation; set and saved before the backend is asked.
	IntentID string
	// Credential of the sandbox's agent.
	Credential string
	// Lease is how long a sandbox lives without being renewed.
	Lease time.Duration
	// Keep: on closing, the sandbox was left to its lease.
	Keep bool
	// Runtime is what clients see; its url is filled in when it is shown.
	Runtime *runtimev1.Runtime
	Spec    *backendv1.SandboxSpec
	// Handle is nil until the backend has answered.
	Handle *backendv1.Handle
}

// Registry is the durable list of runtimes. What Save has acknowledged survives the death of the host.
type Registry interface {
	Save(ctx context.Context, rec Record) error
	// Load returns all records, the stopped ones that are still kept among them.
	Load(ctx context.Context) ([]Record, error)
	// Stopped returns the records of a principal's stopped runtimes that are still kept.
	Stopped(ctx context.Context, principal string) ([]Record, error)
	// ClaimSid gives a principal's sid to a runtime unless it has one already; holder is who has it afterwards.
	ClaimSid(ctx context.Context, principal, sid, runtimeID string) (holder string, err error)
	// ReleaseSid takes it back from runtimeID; no error if another one has it.
	ReleaseSid(ctx context.Context, principal, sid, runtimeID string) error
}

// Backends are the configured sources of sandboxes.
type Backends interface {
	// Default is the name of the backend of new runtimes.
	Default() string
	// Client returns a backend's client; it blocks, within ctx and a limit of its own, while the plugin is (re)starting.
	// NotFound for a name that is not configured, PluginUnavailable when it is down.
	Client(ctx context.Context, backend string) (backendv1.BackendServiceClient, error)
	// Fallback is the backend to try for a new runtime when one has nothing left to give; false if there is none.
	Fallback(backend string) (next string, ok bool)
	// List returns what is known of each, sorted by name; runtimes is left to the caller.
	List() []*runtimev1.Backend
}

// Metrics counts.
type Metrics interface {
	ActionDone(backend, kind string, outcome agentv1.Outcome, d time.Duration)
	RuntimeReady(backend string, d time.Duration)
}

// Recoverer runs an operation under the host's error-recovery policy; *recovery.Recoverer is one.
type Recoverer interface {
	Do(ctx context.Context, op policy.Op, fn func(context.Context) error) error
}

// Dialer makes the executor of an agent's endpoint.
type Dialer func(endpoint *backendv1.EndpointResponse, credential string) (Executor, error)

// Limits of the whole host.
type Limits struct {
	Runtimes int
	Actions  ActionLimits
	// Subscribers may follow one runtime's events, or one action's output, at once; Lag is how many events one may lag behind.
	Subscribers int
	Lag         int
	// Transfers of files in one runtime at once.
	Transfers int
}

// Waits are the named times of this package.
type Waits struct {
	// Connect bounds one creation at a backend with all its repeats; Close one closing.
	Connect func(backend string) time.Duration
	Close   time.Duration
	// Admit is how long a request waits for a runtime that is starting or being found again.
	Admit time.Duration
	// Adopt bounds one try to find a sandbox again; Cleanup the clean-up after a failed creation.
	Adopt, Cleanup time.Duration
	// Call bounds small calls to a backend (pause, resume, renew, endpoint).
	Call time.Duration
	// Pause bounds pausing and resuming.
	Pause time.Duration
	// Status is the longest stay in a status; zero means the table's own.
	Status func(lifecycle.Status) time.Duration
}

// DefaultWaits are the times in force where the config says nothing else.
func DefaultWaits() Waits {
	return Waits{
		Connect: func(string) time.Duration { return 10 * time.Minute }, Close: time.Minute, Admit: 2 * time.Minute,
		Adopt: 20 * time.Second, Cleanup: 30 * time.Second, Call: 30 * time.Second, Pause: 2 * time.Minute,
		Status: lifecycle.Limit,
	}
}

func notFound(ref string) error {
	return rterr.New(rterr.NotFound, "", "no runtime %q", ref).WithRan(rterr.RanNo)
}
