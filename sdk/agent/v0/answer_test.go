package v0

import (
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

func act(kind, payload string) *agentv1.Action {
	return &agentv1.Action{Kind: kind, Payload: []byte(payload)}
}

func TestAnswerPassesThePayloadOn(t *testing.T) {
	payload := []byte(`{"observation":"run", "content":"<a> & b"}`)
	r := Answer(act(action.KindRun, `{"command":"x"}`), &agentv1.Observation{Payload: payload}, nil)
	if r.Status != 200 || string(r.Body) != string(payload) {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}

// observation is what a client reads.
type observation struct {
	Observation, Content, Message string
	Extras                        map[string]any
	Success                       *bool
}

func read(t *testing.T, r Reply) observation {
	t.Helper()
	var o observation
	if err := json.Unmarshal(r.Body, &o); err != nil || r.Status != 200 || o.Extras == nil {
		t.Fatalf("%d %s: %v", r.Status, r.Body, err)
	}
	return o
}

func TestAnswerOfWhatFailedIsAnObservation(t *testing.T) {
	failed := &agentv1.Observation{Outcome: agentv1.Outcome_OUTCOME_FAILED, Error: rtwire.ToDetail(
		rterr.New(rterr.NotFound, "start shell", "no such working directory").WithRan(rterr.RanNo))}
	lost := rterr.New(rterr.OutcomeUnknown, "", "the agent was stopped").WithRemedy("look first")
	for name, c := range map[string]struct {
		a    *agentv1.Action
		obs  *agentv1.Observation
		err  error
		text string
	}{
		"failed":        {act(action.KindRead, `{"path":"x"}`), failed, nil, "start shell: no such working directory"},
		"failed run":    {act(action.KindRun, `{"command":"x"}`), failed, nil, "start shell: no such working directory"},
		"lost":          {act(action.KindRun, `{"command":"x"}`), &agentv1.Observation{Error: rtwire.ToDetail(lost)}, nil, "the agent was stopped. Next: look first"},
		"lost as error": {act(action.KindRun, `{"command":"x"}`), nil, lost, "the agent was stopped. Next: look first"},
		"bad args":      {act(action.KindRun, `{"command":"\u0000"}`), nil, rterr.Invalid("", "action.payload.command", "has a NUL byte"), "action.payload.command: has a NUL byte"},
		"no answer":     {act(action.KindEdit, `{"path":"x"}`), &agentv1.Observation{Outcome: agentv1.Outcome_OUTCOME_INTERRUPTED}, nil, "edit ended without an answer: OUTCOME_INTERRUPTED"},
		"no browser":    {act(action.KindBrowse, `{"url":"x"}`), nil, action.UnknownKind("browse", nil), "Browser functionality is not supported or disabled."},
		"no browser 2":  {act(action.KindBrowseInteractive, `{}`), nil, action.UnknownKind("browse_interactive", nil), "Browser functionality is not supported or disabled."},
	} {
		o := read(t, Answer(c.a, c.obs, c.err))
		if o.Observation != "error" || o.Content != c.text || o.Message != c.text || o.Extras["error_id"] != "" || len(o.Extras) != 1 || o.Success != nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestAnswerToHiddenAndStaticIsARunObservation(t *testing.T) {
	for _, payload := range []string{`{"command":" x ","hidden":true}`, `{"command":" x ","is_static":true,"cwd":"/nowhere"}`} {
		o := read(t, Answer(act(action.KindRun, payload), nil, rterr.Invalid("", "action.payload.cwd", "is gone")))
		meta, _ := o.Extras["metadata"].(map[string]any)
		if o.Observation != "run" || o.Content != "ERROR: action.payload.cwd: is gone" || o.Extras["command"] != "x" || o.Success == nil || *o.Success ||
			o.Extras["hidden"] != strings.Contains(payload, "hidden") || meta["exit_code"] != -1.0 || len(meta) != 8 || len(o.Extras) != 3 {
			t.Errorf("%s: %+v", payload, o)
		}
	}
}

func TestAnswerOfErrors(t *testing.T) {
	run := act(action.KindRun, `{"command":"x","hidden":true}`)
	for _, c := range []struct {
		a      *agentv1.Action
		err    error
		status int
		detail string
	}{
		{run, rterr.New(rterr.Internal, "op", "boom"), 500, "Internal server error: op: boom"},
		{run, errors.New("boom"), 500, "Internal server error: boom"},
		{run, rterr.New(rterr.ActionConflict, "", "used"), 500, "Internal server error: used"},
		{run, rterr.Invalid("", "action.id", "is malformed"), 500, "Internal server error: action.id: is malformed"},
		{run, rterr.New(rterr.SandboxGone, "", "gone"), 404, "Internal server error: gone"},
		{run, rterr.New(rterr.SandboxUnreachable, "", "away"), 502, "Internal server error: away"},
		{run, rterr.New(rterr.SandboxPaused, "", "paused"), 503, "Internal server error: paused"},
		{run, rterr.New(rterr.Timeout, "", "late"), 504, "Internal server error: late"},
		{run, rterr.New(rterr.LimitExceeded, "", "full").WithRan(rterr.RanNo).WithRetryAfter(time.Second), 429, "Internal server error: full"},
		{run, rterr.New(rterr.LimitExceeded, "", "full").WithRan(rterr.RanYes), 500, "Internal server error: full"},
		{run, Forbidden(), 403, "Invalid API Key"},
		{act(action.KindRunIPython, `{"code":"1"}`), action.UnknownKind("run_ipython", nil), 500,
			"Internal server error: JupyterRequirement not found. Unable to run IPython action."},
		{act(action.KindEdit, `{"path":"x"}`), action.UnknownKind("edit", nil), 500, "Internal server error: 'ActionExecutor' object has no attribute 'edit'"},
	} {
		r := Answer(c.a, nil, c.err)
		w := httptest.NewRecorder()
		if err := r.Write(w); err != nil {
			t.Fatal(err)
		}
		var body map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != c.status || body["detail"] != c.detail || len(body) != 1 {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") != "application/json" || (w.Header().Get("Retry-After") == "1") != (c.status == 429) {
			t.Errorf("%v: %v", c.err, w.Header())
		}
	}
}

func TestFailuresKeepTheirCause(t *testing.T) {
	if f := FailureOf(rterr.Wrap(rterr.Internal, "x", io.ErrUnexpectedEOF)); !errors.Is(f, io.ErrUnexpectedEOF) {
		t.Error(f)
	}
	w := httptest.NewRecorder()
	if err := MethodNotAllowed("POST").Reply().Write(w); err != nil || w.Code != 405 || w.Header().Get("Allow") != "POST" ||
		w.Body.String() != `{"detail":"Method Not Allowed"}` {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if got := string(Unexpected().Reply().Body); got != `{"detail":"An unexpected error occurred. Please try again later."}` {
		t.Error(got)
	}
	if got := string(NotFound().Reply().Body); got != `{"detail":"Not Found"}` {
		t.Error(got)
	}
}
