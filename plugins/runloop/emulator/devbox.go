package emulator

import (
	"context"
	"maps"
	"path/filepath"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// status is a state of a devbox.
type status string

// The states.
const (
	queued        status = "queued"
	provisioning  status = "provisioning"
	initializing  status = "initializing"
	running       status = "running"
	suspending    status = "suspending"
	suspended     status = "suspended"
	resuming      status = "resuming"
	statusFailure status = "failure"
	shutdown      status = "shutdown"
)

func (st status) terminal() bool { return st == statusFailure || st == shutdown }

// devbox is one devbox. The server's lock guards every field but those that are set at its making: id, created, params, disk, life.
type devbox struct {
	id      string
	created int64
	params  api.DevboxCreateParameters
	disk    string
	// life ends with the devbox; everything that is done for it by itself is done within.
	life context.Context //nolint:containedctx // It is the life of the devbox, not of a call.
	end  context.CancelFunc
	// source is the disk to begin with; empty: a fresh one.
	source string
	env    []string
	faults bootFaults

	name        *string
	metadata    map[string]string
	launch      api.LaunchParameters
	status      status
	ended       int64
	transitions []transition
	failure     string
	reason      string
	blueprintID *string
	snapshotID  *string
	tunnel      *tunnel
	gateways    map[string]any
	mcp         map[string]any

	box        *box.Box
	executions *table[*execution]
	shells     map[string]chan struct{}
	ptys       map[string]*terminal
	logs       *logbook
	// snapshotting counts snapshots that are being taken.
	snapshotting int
	// changed is closed and renewed with every change of the status.
	changed chan struct{}
	// lastUse is when something was last done with the devbox, keptFrom when its keep-alive time began to run.
	lastUse, keptFrom time.Time
	// activeSince is when it last began to run; active sums up the time before.
	activeSince time.Time
	active      time.Duration
}

// bootFaults are those that were drawn when the devbox was made.
type bootFaults struct {
	slow   time.Duration
	fails  bool
	evicts *Fault
}

type transition struct {
	Status  status  `json:"status"`
	TimeMs  int64   `json:"transition_time_ms"`
	Failure *string `json:"failure_reason"`
}

// to changes the status. The server's lock is held.
func (d *devbox) to(next status) {
	if d.status == next {
		return
	}
	now := time.Now()
	if d.status == running || d.status == suspending {
		if next != suspending {
			d.active += now.Sub(d.activeSince)
		}
	}
	if next == running {
		d.activeSince, d.keptFrom, d.lastUse = now, now, now
	}
	d.status = next
	change := transition{Status: next, TimeMs: now.UnixMilli()}
	if next == statusFailure {
		change.Failure = &d.failure
	}
	d.transitions = append(d.transitions, change)
	if next.terminal() {
		d.ended = now.UnixMilli()
		d.tunnel = nil
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// devboxView is a devbox as it is answered. Fields that have no value are null, as the service sends them.
type devboxView struct {
	ID               string               `json:"id"`
	Name             *string              `json:"name"`
	Status           status               `json:"status"`
	CreateTimeMs     int64                `json:"create_time_ms"`
	EndTimeMs        *int64               `json:"end_time_ms"`
	InitiatorType    string               `json:"initiator_type"`
	InitiatorID      *string              `json:"initiator_id"`
	BlueprintID      *string              `json:"blueprint_id"`
	SnapshotID       *string              `json:"snapshot_id"`
	Metadata         map[string]string    `json:"metadata"`
	FailureReason    *string              `json:"failure_reason"`
	ShutdownReason   *string              `json:"shutdown_reason"`
	LaunchParameters api.LaunchParameters `json:"launch_parameters"`
	Capabilities     []string             `json:"capabilities"`
	StateTransitions []transition         `json:"state_transitions"`
	Tunnel           *tunnelView          `json:"tunnel"`
	GatewaySpecs     map[string]any       `json:"gateway_specs"`
	McpSpecs         map[string]any       `json:"mcp_specs"`
}

// view is taken with the server's lock held and shares nothing with the devbox.
func (d *devbox) view() devboxView {
	v := devboxView{
		ID: d.id, Name: d.name, Status: d.status, CreateTimeMs: d.created, InitiatorType: "api",
		BlueprintID: d.blueprintID, SnapshotID: d.snapshotID, Metadata: maps.Clone(d.metadata),
		LaunchParameters: d.launch, Capabilities: []string{"unknown"},
		StateTransitions: append([]transition{}, d.transitions...), GatewaySpecs: d.gateways, McpSpecs: d.mcp,
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if d.ended > 0 {
		v.EndTimeMs = &d.ended
	}
	if d.status == statusFailure {
		v.FailureReason = &d.failure
	}
	if d.status == shutdown {
		v.ShutdownReason = &d.reason
	}
	if d.tunnel != nil {
		view := d.tunnel.view()
		v.Tunnel = &view
	}
	return v
}

func (d *devbox) user() (name string, uid int) {
	if u := d.launch.UserParameters; u != nil && u.Username != "" {
		return u.Username, int(u.UID)
	}
	return "user", 1000
}

func (s *Server) newDevbox(params api.DevboxCreateParameters) *devbox {
	id := newID("dbx")
	d := &devbox{
		id: id, created: nowMs(), params: params, disk: filepath.Join(s.folder.path, id, "disk"),
		name: params.Name, metadata: maps.Clone(params.Metadata),
		executions: newTable[*execution](), shells: map[string]chan struct{}{}, ptys: map[string]*terminal{},
		logs: newLogbook(), changed: make(chan struct{}), lastUse: time.Now(),
	}
	//nolint:gosec // The devbox's end calls it.
	d.life, d.end = context.WithCancel(s.running)
	return d
}

// devbox returns a devbox; the server's lock is held. An id that cannot be one is a bad request, one that could be is unknown.
func (s *Server) devbox(id string) (*devbox, error) {
	if d, ok := s.state.devboxes.byID[id]; ok {
		return d, nil
	}
	if !wellFormed(id, "dbx") {
		return nil, badRequest("Invalid devbox id: %s", id)
	}
	return nil, notFound("Devbox %s not found", id)
}

// runningDevbox returns a devbox that runs, and notes that it is used; the server's lock is not held.
func (s *Server) runningDevbox(id string) (*devbox, *box.Box, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(id)
	if err != nil {
		return nil, nil, err
	}
	if d.status != running || d.box == nil {
		return nil, nil, badRequest("Devbox %s is not running: it is in state %s", id, d.status)
	}
	d.lastUse = time.Now()
	return d, d.box, nil
}
