package plugin

import (
	"time"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

// State is where a supervised backend stands.
type State uint8

// The states of a backend.
const (
	StateUnspecified State = iota
	// Stopped: not started yet, or stopped for good.
	Stopped
	// Starting: launched, being configured, or the host adopts what it has.
	Starting
	// Running: Client hands it out.
	Running
	// Backoff: it failed and is started again at RetryAt.
	Backoff
	// Quarantined: it failed too often. Reload or Reconfigure starts it again.
	Quarantined
	// Misconfigured: another start would fail alike: its config, its program or its checksum is wrong. Reload or Reconfigure
	// starts it again.
	Misconfigured
	// Stopping: draining.
	Stopping
)

// String returns "running" and so on.
func (s State) String() string {
	switch s {
	case Stopped:
		return "stopped"
	case Starting:
		return "starting"
	case Running:
		return "running"
	case Backoff:
		return "backoff"
	case Quarantined:
		return "quarantined"
	case Misconfigured:
		return "misconfigured"
	case Stopping:
		return "stopping"
	default:
		return "unspecified"
	}
}

// MarshalText writes the state as String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// passing states are left without anyone's help. Running without a plugin is the moment after its death.
func (s State) passing() bool { return s == Starting || s == Backoff || s == Running }

// Snapshot is what is known of a backend at one moment. It is a copy; the messages in it are read-only.
type Snapshot struct {
	Backend string
	// Source is "command PROGRAM" or "address ADDRESS".
	Source string
	State  State
	// Since is when State was entered, RetryAt when a backoff ends.
	Since, RetryAt time.Time
	// PID and SHA256 of the plugin's process; zero for an address and while there is none.
	PID    int
	SHA256 string
	// Describe is the plugin's answer, with the capabilities that Configure returned; nil before the first one.
	Describe *backendv1.DescribeResponse
	// Warnings are those of the last Configure.
	Warnings []string
	// Starts counts launches, the first one included; Failures counts those that failed and processes that died.
	Starts, Failures int
	// LastError is the newest failure, an *rterr.Error; kept after a restart.
	LastError error
	// Output is what the present process, else the last one, wrote.
	Output Output
}
