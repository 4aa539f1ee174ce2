package v0

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// maxTimeout is the longest timeout that is kept; a longer one might as well be none.
const maxTimeout = 100 * 365 * 24 * time.Hour

// DecodeAction reads the body of an /execute_action to its end: {"action": EVENT}. The payload of what it returns is the event's
// args byte for byte, the timeout that of the event; null and zero mean none. The id is empty: the caller mints one. What a client
// sends along for itself is skipped without being kept. The kind is one of this package's.
//
// Errors are Failures: 422 for what is no request, 413 beyond MaxBody or action.MaxPayload, 500 for what is no action that a
// sandbox runs. A body that cannot be read is returned as its own error.
func DecodeAction(body io.Reader) (*agentv1.Action, error) {
	in := &bounded{from: body, left: MaxBody}
	d := json.NewDecoder(in)
	d.UseNumber()
	e, err := readRequest(d)
	if err == nil {
		err = atEnd(d)
	}
	switch {
	case in.err != nil:
		return nil, in.err
	case err != nil:
		return nil, malformed(d, err)
	}
	return e.action()
}

// bounded reads up to a limit, and remembers why it ended.
type bounded struct {
	from io.Reader
	left int64
	err  error
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		var one [1]byte
		if n, err := b.from.Read(one[:]); n == 0 {
			return 0, b.note(err)
		}
		b.err = tooLarge("body", MaxBody)
		return 0, b.err
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, b.note(err)
}

func (b *bounded) note(err error) error {
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return err
}

func tooLarge(what string, limit int) *Failure {
	return &Failure{Status: http.StatusRequestEntityTooLarge, Detail: "The " + what + " is larger than " + strconv.Itoa(limit) + " bytes"}
}

// event is what counts of an action on the wire; nil where it was absent.
type event struct {
	kind, observation, source, timeout, args json.RawMessage
}

// field returns where the value of a key is kept, nil for one that does not matter here.
func (e *event) field(key string) *json.RawMessage {
	switch key {
	case "action":
		return &e.kind
	case "observation":
		return &e.observation
	case "source":
		return &e.source
	case "timeout":
		return &e.timeout
	case "args":
		return &e.args
	}
	return nil
}

// readRequest reads the outer object. Of a key that comes twice, the last counts.
func readRequest(d *json.Decoder) (*event, error) {
	var found *event
	err := eachKey(d, func(key string) error {
		if key != "action" {
			return d.Decode(&nothing{})
		}
		found = &event{}
		err := eachKey(d, func(key string) error {
			if to := found.field(key); to != nil {
				*to = nil
				return d.Decode(to)
			}
			return d.Decode(&nothing{})
		})
		if errors.Is(err, errNoObject) {
			err = Unprocessable("dict_type", "Input should be a valid dictionary", "body", "action")
		}
		return err
	})
	if err == nil && found == nil {
		err = Unprocessable("missing", "Field required", "body", "action")
	}
	return found, err
}

// nothing is a value that is checked and not kept.
type nothing struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (*nothing) UnmarshalJSON([]byte) error { return nil }

// errNoObject says that there is another value where an object was wanted.
var errNoObject = errors.New("not an object")

// eachKey calls visit for each key of the object that comes next; visit reads the value.
func eachKey(d *json.Decoder, visit func(key string) error) error {
	open, err := d.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errNoObject
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		if err := visit(key.(string)); err != nil { // nothing else is a key
			return err
		}
	}
	_, err = d.Token()
	return err
}

// atEnd wants nothing but space after the object.
func atEnd(d *json.Decoder) error {
	_, err := d.Token()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = errors.New("extra data")
	}
	return err
}

// malformed is the answer to a body that is no JSON object with an action.
func malformed(d *json.Decoder, err error) error {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	if errors.Is(err, errNoObject) {
		return Unprocessable("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", "body")
	}
	if errors.Is(err, io.EOF) && d.InputOffset() == 0 {
		return Unprocessable("missing", "Field required", "body")
	}
	f := Unprocessable("json_invalid", "JSON decode error", "body")
	f.Errors = strings.Replace(f.Errors, "('body',)", "('body', "+strconv.FormatInt(d.InputOffset(), 10)+")", 1)
	return f
}

// action applies the original's rules for events.
func (e *event) action() (*agentv1.Action, error) {
	kind, err := e.runnable()
	if err != nil {
		return nil, err
	}
	args, err := e.checkedArgs(kind)
	if err != nil {
		return nil, err
	}
	a := &agentv1.Action{Kind: kind, Payload: args}
	timeout, err := e.limit()
	if err != nil {
		return nil, err
	}
	if timeout > 0 {
		a.Timeout = durationpb.New(timeout)
	}
	return a, e.checkSource()
}

// runnable returns the kind if it is one that a sandbox runs.
func (e *event) runnable() (string, error) {
	if e.kind == nil {
		if e.observation != nil {
			return "", Internal("400: Invalid action type")
		}
		return "", Internal("Unknown event type: neither action nor observation is given")
	}
	var kind string
	if e.kind[0] != '"' || json.Unmarshal(e.kind, &kind) != nil {
		return "", Internal("action must be a string")
	}
	switch {
	case slices.Contains(kinds(), kind):
		return kind, nil
	case slices.Contains(otherKinds(), kind):
		return "", noSuchMethod(kind)
	}
	return "", Internal("'" + clip(kind) + "' is not defined. Available actions: " + strings.Join(slices.Concat(kinds(), otherKinds()), ", "))
}

func noSuchMethod(kind string) *Failure {
	return Internal("'ActionExecutor' object has no attribute '" + kind + "'")
}

// kinds are those that a sandbox runs.
func kinds() []string {
	return []string{action.KindRun, action.KindRunIPython, action.KindRead, action.KindWrite, action.KindEdit, action.KindBrowse, action.KindBrowseInteractive}
}

// otherKinds are known to the original, which answers them elsewhere.
func otherKinds() []string {
	return []string{"message", "system", "call_tool_mcp", "delegate", "think", "finish", "reject", "null", "change_agent_state",
		"recall", "condensation", "condensation_request", "task_tracking", "loop_recovery"}
}

func required(kind string) []string {
	switch kind {
	case action.KindRun:
		return []string{"command"}
	case action.KindRunIPython:
		return []string{"code"}
	case action.KindWrite:
		return []string{"path", "content"}
	case action.KindBrowse:
		return []string{"url"}
	case action.KindBrowseInteractive:
		return []string{"browser_actions"}
	default:
		return []string{"path"}
	}
}

// checkedArgs returns the args. What is required must be a string; what is not known is left to whoever runs the action.
func (e *event) checkedArgs(kind string) ([]byte, error) {
	if e.args == nil {
		e.args = json.RawMessage("{}")
	}
	switch {
	case e.args[0] != '{':
		return nil, Internal("the args of " + kind + " must be an object")
	case len(e.args) > action.MaxPayload:
		return nil, tooLarge("args of the action", action.MaxPayload)
	case !utf8.Valid(e.args):
		return nil, &Failure{Status: http.StatusBadRequest, Detail: "There was an error parsing the body"}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(e.args, &fields); err != nil {
		return nil, Internal("the args of " + kind + " cannot be read: " + err.Error())
	}
	for _, name := range required(kind) {
		switch value := fields[name]; {
		case value == nil || bytes.Equal(value, []byte("null")):
			return nil, Internal("action " + kind + " has the wrong arguments: missing required argument: '" + name + "'")
		case value[0] != '"':
			return nil, Internal("action " + kind + " has the wrong arguments: '" + name + "' must be a string")
		}
	}
	return e.args, nil
}

// limit returns the hard timeout, zero for none.
func (e *event) limit() (time.Duration, error) {
	if e.timeout == nil || string(e.timeout) == "null" {
		return 0, nil
	}
	seconds, err := strconv.ParseFloat(string(e.timeout), 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && seconds > 0:
	case err != nil || seconds < 0 || math.IsNaN(seconds):
		return 0, Internal("timeout must be a number of seconds, not " + clip(string(e.timeout)))
	}
	if seconds >= maxTimeout.Seconds() {
		return maxTimeout, nil
	}
	nanos := time.Duration(math.Round(seconds * float64(time.Second)))
	if nanos == 0 && seconds > 0 {
		nanos = 1
	}
	return nanos, nil
}

func (e *event) checkSource() error {
	if e.source == nil {
		return nil
	}
	var source string
	text := "None"
	if e.source[0] == '"' && json.Unmarshal(e.source, &source) == nil {
		if slices.Contains([]string{"agent", "user", "environment"}, source) {
			return nil
		}
		text = "'" + clip(source) + "'"
	}
	return Internal(text + " is not a valid EventSource")
}

// clip keeps what a client sent short enough for a message.
func clip(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
