package v0

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// request is the one of openhands-v0 2.4.
const request = `{"action": {"id": 7, "timestamp": "2025-11-28T10:00:00.123456", "source": "agent",
  "message": "Running command: ls", "action": "run",
  "args": {"command": "ls",  "is_input": false, "thought": "", "cwd": null, "n": 1e400},
  "tool_call_metadata": {"function_name": "x", "model_response": {"choices": [{"a": [1, [2, {}]]}, "action"]}},
  "llm_metrics": null, "timeout": 120.0}, "args": {"command": "no"}}`

func TestDecodeKeepsTheArgsByteForByte(t *testing.T) {
	for name, reader := range map[string]io.Reader{
		"whole": strings.NewReader(request), "by bytes": iotest.OneByteReader(strings.NewReader(request)),
	} {
		a, err := DecodeAction(reader)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if a.GetId() != "" || a.GetKind() != "run" || a.GetTimeout().AsDuration() != 2*time.Minute ||
			string(a.GetPayload()) != `{"command": "ls",  "is_input": false, "thought": "", "cwd": null, "n": 1e400}` {
			t.Errorf("%s: %v", name, a)
		}
	}
}

func TestDecodeTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`"timeout":null`: 0, `"x":1`: 0, `"timeout":0`: 0, `"timeout":0.1`: 100 * time.Millisecond, `"timeout":5`: 5 * time.Second,
		`"timeout":1e-12`: 1, `"timeout":1e300`: maxTimeout, `"timeout":1e999`: maxTimeout, `"timeout":9,"timeout":2.5`: 2500 * time.Millisecond,
		`"timeout":9,"timeout":null`: 0,
	} {
		a, err := DecodeAction(strings.NewReader(`{"action":{"action":"run","args":{"command":""},` + text + `}}`))
		if err != nil || a.GetTimeout().AsDuration() != want || (a.GetTimeout() == nil) != (want == 0) {
			t.Errorf("%s: %v, %v", text, a.GetTimeout(), err)
		}
	}
}

func TestDecodeRefusals(t *testing.T) {
	run := func(more string) string { return `{"action":{"action":"run","args":{"command":"x"}` + more + `}}` }
	for _, c := range []struct {
		body, detail string
		status       int
	}{
		{``, "Field required", 422},
		{`{`, "json_invalid", 422},
		{`nope`, "json_invalid", 422},
		{`[]`, "model_attributes_type", 422},
		{`"x"`, "model_attributes_type", 422},
		{`{}`, "('body', 'action')", 422},
		{`{"action":"run"}`, "dict_type", 422},
		{`{"action":[{"action":"run"}]}`, "dict_type", 422},
		{`{"action":null}`, "dict_type", 422},
		{run(``) + `{}`, "json_invalid", 422},
		{run(`,"timeout":5,`), "json_invalid", 422},
		{`{"action":{}}`, "Internal server error: Unknown event type", 500},
		{`{"action":{"observation":"run","content":""}}`, "Internal server error: 400: Invalid action type", 500},
		{`{"action":{"action":5}}`, "Internal server error: action must be a string", 500},
		{`{"action":{"action":"dance"}}`, "Internal server error: 'dance' is not defined", 500},
		{`{"action":{"action":"think","args":{}}}`, "Internal server error: 'ActionExecutor' object has no attribute 'think'", 500},
		{`{"action":{"action":"call_tool_mcp","args":{}}}`, "no attribute 'call_tool_mcp'", 500},
		{`{"action":{"action":"run"}}`, "missing required argument: 'command'", 500},
		{`{"action":{"action":"run","args":null}}`, "must be an object", 500},
		{`{"action":{"action":"run","args":{"command":null}}}`, "missing required argument: 'command'", 500},
		{`{"action":{"action":"run","args":{"Command":"x"}}}`, "missing required argument: 'command'", 500},
		{`{"action":{"action":"run","args":{"command":5}}}`, "'command' must be a string", 500},
		{`{"action":{"action":"write","args":{"path":"/x"}}}`, "missing required argument: 'content'", 500},
		{`{"action":{"action":"run_ipython","args":{}}}`, "'code'", 500},
		{`{"action":{"action":"browse","args":{}}}`, "'url'", 500},
		{`{"action":{"action":"browse_interactive","args":{}}}`, "'browser_actions'", 500},
		{`{"action":{"action":"read","args":{}}}`, "'path'", 500},
		{`{"action":{"action":"edit","args":{}}}`, "'path'", 500},
		{run(`,"timeout":"5"`), "timeout must be a number", 500},
		{run(`,"timeout":true`), "timeout must be a number", 500},
		{run(`,"timeout":-1`), "timeout must be a number", 500},
		{run(`,"source":"nobody"`), "Internal server error: 'nobody' is not a valid EventSource", 500},
		{run(`,"source":null`), "None is not a valid EventSource", 500},
		{"{\"action\":{\"action\":\"run\",\"args\":{\"command\":\"\xff\"}}}", "There was an error parsing the body", 400},
		{`{"action":{"action":"run","args":{"command":"` + strings.Repeat("x", action.MaxPayload) + `"}}}`, "larger than", 413},
		{run(`,"llm_metrics":["` + strings.Repeat(`x","`, MaxBody/4) + `"]`), "larger than", 413},
	} {
		a, err := DecodeAction(strings.NewReader(c.body))
		f, ok := errors.AsType[*Failure](err)
		if a != nil && err == nil || !ok || f.Status != c.status || !strings.Contains(f.Error(), c.detail) {
			t.Errorf("%.80s: %v", c.body, err)
		}
		if ok {
			checkFailureBody(t, f)
		}
	}
}

// checkFailureBody wants what the client can read: an object with a string detail.
func checkFailureBody(t *testing.T, f *Failure) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal(f.Reply().Body, &body); err != nil || body["detail"] != f.Detail {
		t.Errorf("%s: %v", f.Reply().Body, err)
	}
	if _, has := body["errors"]; has != (f.Status == 422) {
		t.Errorf("%s", f.Reply().Body)
	}
	if f.Status == 422 && body["detail"] != "Invalid request parameters" {
		t.Errorf("%s", f.Reply().Body)
	}
}

// endless is a body that nobody ends; it counts what was taken of it.
type endless struct{ taken int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.taken += len(p)
	return len(p), nil
}

func TestDecodeTakesNoMoreThanItsLimit(t *testing.T) {
	in := &endless{}
	_, err := DecodeAction(io.MultiReader(strings.NewReader(`{"action":{`), in))
	if f, ok := errors.AsType[*Failure](err); !ok || f.Status != 413 {
		t.Error(err)
	}
	if in.taken > MaxBody+1024 {
		t.Errorf("%d bytes were read", in.taken)
	}
}

func TestDecodeReturnsTheErrorOfACutBody(t *testing.T) {
	_, err := DecodeAction(io.MultiReader(strings.NewReader(request[:100]), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if _, ok := errors.AsType[*Failure](err); ok || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

func TestDecodeAcceptsWhatClientsSend(t *testing.T) {
	for kind, args := range map[string]string{
		"run":                `{"command":""}`,
		"run_ipython":        `{"code":"1","thought":"","include_extra":true,"kernel_init_code":""}`,
		"read":               `{"path":"a","start":0,"end":-1,"impl_source":"default","view_range":null,"is_confirmed":"confirmed"}`,
		"write":              `{"path":"a","content":"","keep_prompt":true}`,
		"edit":               `{"path":"/a","command":"insert","insert_line":"5","new_str":"x","security_risk":"HIGH"}`,
		"browse":             `{"url":"x"}`,
		"browse_interactive": `{"browser_actions":"noop(1)","images_urls":[]}`,
	} {
		a, err := DecodeAction(strings.NewReader(`{"action":{"args":` + args + `,"action":"` + kind + `"}}` + "\n"))
		if err != nil || a.GetKind() != kind || string(a.GetPayload()) != args {
			t.Errorf("%s: %v, %v", kind, a, err)
		}
	}
}

func FuzzDecodeAction(f *testing.F) {
	f.Add([]byte(request))
	f.Add([]byte(`{"action":{"action":"read","args":{"path":"\ud800"},"timeout":1e-9}}`))
	f.Add([]byte(`{"action":{"a":[[{"b":{}}]],"action":"run","args":{"command":"\u0000"},"args":{"command":"2"}}}`))
	f.Add([]byte(`[{]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := DecodeAction(bytes.NewReader(body))
		if err != nil {
			failure, ok := errors.AsType[*Failure](err)
			if !ok || failure.Status < 400 || failure.Status > 500 {
				t.Fatalf("%v", err)
			}
			checkFailureBody(t, failure)
			return
		}
		if !json.Valid(body) || a.GetPayload()[0] != '{' || !bytes.Contains(body, a.GetPayload()) || a.GetTimeout().AsDuration() < 0 {
			t.Fatalf("%v", a)
		}
		again := append(append([]byte(`{"action":{"action":"`+a.GetKind()+`","args":`), a.GetPayload()...), "}}"...)
		b, err := DecodeAction(bytes.NewReader(again))
		if err != nil || !bytes.Equal(b.GetPayload(), a.GetPayload()) || action.Normalize(b) != nil {
			t.Fatalf("%v, %v", b, err)
		}
	})
}
