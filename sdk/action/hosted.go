package action

import (
	"bytes"
	"encoding/json"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The kinds of action that need no sandbox: OpenHands answers them in its client, this project in the host.
const (
	KindThink        = "think"
	KindRecall       = "recall"
	KindTaskTracking = "task_tracking"
	// KindCallToolMCP is known by name alone for now: it is refused.
	KindCallToolMCP = "call_tool_mcp"
)

// The kinds of observation that only such answers have.
const (
	ObservationNull         = "null"
	ObservationUserRejected = "user_rejected"
)

// The commands of a task_tracking action.
const (
	TasksPlan = "plan"
	TasksView = "view"
)

// Think is the payload of a think action (openhands-v0 2.2). Unknown fields are ignored.
type Think struct {
	Thought string `json:"thought"`
}

// DecodeThink reads the payload of a think action. Errors name the field.
func DecodeThink(payload []byte) (*Think, error) {
	t := &Think{}
	return t, decode(payload, t, true)
}

// Recall is the payload of a recall action (openhands-v0 2.2). Unknown fields are ignored.
type Recall struct {
	// RecallType is "workspace_context" or "knowledge"; any other word is taken too, as OpenHands takes it.
	RecallType string `json:"recall_type"`
	Query      string `json:"query"`
}

// DecodeRecall reads the payload of a recall action. Errors name the field.
func DecodeRecall(payload []byte) (*Recall, error) {
	r := &Recall{}
	if err := decode(payload, r, true); err != nil {
		return nil, err
	}
	if r.RecallType == "" {
		return nil, rterr.Invalid("", "action.payload.recall_type", "is required")
	}
	return r, nil
}

// TaskTracking is the payload of a task_tracking action (openhands-v0 8.2). Unknown fields are ignored.
type TaskTracking struct {
	// Command is TasksPlan or TasksView; empty means TasksView. Any other word is answered as unknown, not refused.
	Command string
	// TaskList is the JSON array of a plan, as it was sent; [] if it was left out or null.
	TaskList json.RawMessage
	// Tasks are the items of TaskList.
	Tasks []Task
}

// Task is what the task list's file says of an item.
type Task struct {
	// Status is "todo", "in_progress" or "done"; anything else counts as "todo".
	Status       string
	Title, Notes string
}

// DecodeTaskTracking reads the payload of a task_tracking action. Errors name the field.
func DecodeTaskTracking(payload []byte) (*TaskTracking, error) {
	var wire struct {
		Command  *string         `json:"command"`
		TaskList json.RawMessage `json:"task_list"`
	}
	if err := decode(payload, &wire, true); err != nil {
		return nil, err
	}
	t := &TaskTracking{Command: TasksView, TaskList: wire.TaskList}
	if wire.Command != nil {
		t.Command = *wire.Command
	}
	if len(t.TaskList) == 0 || bytes.Equal(t.TaskList, []byte("null")) {
		t.TaskList = json.RawMessage("[]")
	}
	var items []map[string]json.RawMessage
	if err := json.Unmarshal(t.TaskList, &items); err != nil {
		return nil, rterr.Invalid("", "action.payload.task_list", "is not a list of objects: %v", err)
	}
	for i, item := range items {
		if item == nil {
			return nil, rterr.Invalid("", "action.payload.task_list", "item %d is no object", i+1)
		}
		t.Tasks = append(t.Tasks, Task{Status: text(item["status"]), Title: text(item["title"]), Notes: text(item["notes"])})
	}
	return t, nil
}

// text is a JSON value as Python prints it into a string: a string is itself, null is None.
func text(raw json.RawMessage) string {
	var s string
	switch string(raw) {
	case "":
		return ""
	case "null":
		return "None"
	case "true":
		return "True"
	case "false":
		return "False"
	}
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// Confirmation is the word of a person on an action that asks for one.
type Confirmation string

// The confirmation states (openhands-v0 2.1). An action that has none is confirmed.
const (
	Confirmed            Confirmation = "confirmed"
	ConfirmationRejected Confirmation = "rejected"
	AwaitingConfirmation Confirmation = "awaiting_confirmation"
)

// ConfirmationOf returns the confirmation state of an action of a kind, also under its older name is_confirmed. Only run and
// run_ipython have one. A payload that cannot be read is confirmed: whoever runs it tells what is wrong with it.
func ConfirmationOf(kind string, payload []byte) Confirmation {
	if kind != KindRun && kind != "run_ipython" {
		return Confirmed
	}
	if !bytes.Contains(payload, []byte("confirm")) { // most actions by far: spare them a second look
		return Confirmed
	}
	var wire struct {
		State *string `json:"confirmation_state"`
		Older *string `json:"is_confirmed"`
	}
	if json.Unmarshal(payload, &wire) != nil {
		return Confirmed
	}
	if wire.Older != nil {
		wire.State = wire.Older
	}
	if wire.State == nil {
		return Confirmed
	}
	switch c := Confirmation(*wire.State); c {
	case ConfirmationRejected, AwaitingConfirmation:
		return c
	default:
		return Confirmed
	}
}
