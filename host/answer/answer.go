// Package answer does the actions that need no sandbox: those that OpenHands' client answers by itself (think, recall,
// task_tracking), and those that wait for a person's word or did not get it (the confirmation states). Their texts are OpenHands'
// to the letter.
//
// It knows no runtime, no journal and no protocol. host/runtime asks it before an action goes to a sandbox, and keeps its answers
// as it keeps every observation; the composition root puts the two together.
package answer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// What agents have learnt to read; it must not be changed.
const (
	thoughtLogged = "Your thought has been logged."
	rejected      = "Action has been rejected by the user! Waiting for further user input."
	nothing       = "No observation"
	noTaskList    = `No task list found. Use the "plan" command to create one.`
)

// taskFile is the name of a session's task list.
const taskFile = "TASKS.md"

// maxTasks is the largest plan, in bytes of its payload: the journal keeps its observation whole.
const maxTasks = 56 << 10

// Sessions keeps small files for each session of a principal. Both methods may block on a disk.
type Sessions interface {
	// Write replaces a file in one step: a reader sees the old text or the new one.
	Write(principal, sid, name string, data []byte) error
	// Read returns a file; its error is rterr.NotFound if there is none.
	Read(principal, sid, name string) ([]byte, error)
}

// Answers answers actions. Its methods may be called from any goroutine.
type Answers struct {
	sessions Sessions
}

// New returns answers that keep their files in sessions.
func New(sessions Sessions) *Answers { return &Answers{sessions} }

// Takes reports whether a is answered here and must not reach a sandbox. It does not block, and costs next to nothing for the
// kinds that go to a sandbox.
func (*Answers) Takes(a *agentv1.Action) bool {
	switch a.GetKind() {
	case action.KindThink, action.KindRecall, action.KindTaskTracking, action.KindCallToolMCP:
		return true
	default:
		return action.ConfirmationOf(a.GetKind(), a.GetPayload()) != action.Confirmed
	}
}

// Answer returns the observation's payload for an action that Takes has taken. Errors are refusals, with ran no: InvalidArgument
// naming the field, UnknownKind for call_tool_mcp. Repeating an answer does no harm.
func (s *Answers) Answer(principal, sid string, a *agentv1.Action) ([]byte, error) {
	switch a.GetKind() {
	case action.KindThink:
		_, err := action.DecodeThink(a.GetPayload())
		return plain(action.KindThink, thoughtLogged), err
	case action.KindRecall:
		// Nothing here has a memory: OpenHands' own answers on its event stream, and its runtimes say nothing.
		_, err := action.DecodeRecall(a.GetPayload())
		return null(), err
	case action.KindTaskTracking:
		return s.tasks(principal, sid, a.GetPayload())
	case action.KindCallToolMCP:
		return nil, rterr.New(rterr.UnknownKind, "", "no MCP server can be reached from this runtime").
			WithField("action.kind").WithRan(rterr.RanNo).WithRemedy("call the tool from the client")
	}
	if action.ConfirmationOf(a.GetKind(), a.GetPayload()) == action.ConfirmationRejected {
		return plain(action.ObservationUserRejected, rejected), nil
	}
	return null(), nil
}

func (s *Answers) tasks(principal, sid string, payload []byte) ([]byte, error) {
	if len(payload) > maxTasks {
		return nil, rterr.Invalid("", "action.payload", "has %d bytes, at most %d are taken of a task list", len(payload), maxTasks)
	}
	t, err := action.DecodeTaskTracking(payload)
	if err != nil {
		return nil, err
	}
	// As OpenHands names it in its file store.
	key := "sessions/" + sid + "/" + taskFile
	switch t.Command {
	case action.TasksPlan:
		if err := s.sessions.Write(principal, sid, taskFile, []byte(fileText(t.Tasks))); err != nil {
			return failure(fmt.Sprintf("Failed to write task list to session directory %s: %v", key, err)), nil
		}
		return tracked(t.Command, t.TaskList,
			fmt.Sprintf("Task list has been updated with %d items. Stored in session directory: %s", len(t.Tasks), key)), nil
	case action.TasksView:
		return tracked(t.Command, json.RawMessage("[]"), s.view(principal, sid, key)), nil
	default:
		return tracked(t.Command, json.RawMessage("[]"), "Unknown command: "+t.Command), nil
	}
}

func (s *Answers) view(principal, sid, key string) string {
	text, err := s.sessions.Read(principal, sid, taskFile)
	switch {
	case rterr.Is(err, rterr.NotFound):
		return noTaskList
	case err != nil:
		return fmt.Sprintf("Failed to read the task list from session directory %s. Error: %v", key, err)
	default:
		return string(text)
	}
}

// fileText is the task list for people.
func fileText(tasks []action.Task) string {
	var b strings.Builder
	b.WriteString("# Task List\n\n")
	for i, t := range tasks {
		fmt.Fprintf(&b, "%d. %s %s\n%s\n", i+1, icon(t.Status), t.Title, t.Notes)
	}
	return b.String()
}

func icon(status string) string {
	switch status {
	case "in_progress":
		return "🔄"
	case "done":
		return "✅"
	default:
		return "⏳"
	}
}

// payload is an observation in OpenHands' shape.
type payload struct {
	Message     string `json:"message"`
	Observation string `json:"observation"`
	Content     string `json:"content"`
	Extras      any    `json:"extras"`
}

func (p payload) json() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p) // strings, and JSON that was decoded before
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func plain(kind, text string) []byte {
	return payload{Message: text, Observation: kind, Content: text, Extras: struct{}{}}.json()
}

func null() []byte {
	return payload{Message: nothing, Observation: action.ObservationNull, Extras: struct{}{}}.json()
}

func failure(text string) []byte {
	return payload{Message: text, Observation: "error", Content: text, Extras: map[string]string{"error_id": ""}}.json()
}

// tracked is the observation of a task_tracking action.
func tracked(command string, list json.RawMessage, text string) []byte {
	return payload{Message: text, Observation: action.KindTaskTracking, Content: text, Extras: struct {
		Command  string          `json:"command"`
		TaskList json.RawMessage `json:"task_list"`
	}{command, list}}.json()
}
