package action

import (
	"encoding/json"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestDecodeTaskTracking(t *testing.T) {
	got, err := DecodeTaskTracking([]byte(`{"command":"plan","task_list":[{"title":"a","status":"done","notes":"n","more":1}]}`))
	if err != nil || got.Command != TasksPlan || len(got.Tasks) != 1 || got.Tasks[0] != (Task{"done", "a", "n"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if string(got.TaskList) != `[{"title":"a","status":"done","notes":"n","more":1}]` {
		t.Errorf("the list is not kept as it was sent: %s", got.TaskList)
	}
	for payload, field := range map[string]string{
		`{"task_list":{}}`: "action.payload.task_list", `{"task_list":[1]}`: "action.payload.task_list",
		`{"command":[]}`: "action.payload", `{`: "action.payload", `{} {}`: "action.payload",
	} {
		_, err := DecodeTaskTracking([]byte(payload))
		if e := rterr.From(err); e == nil || e.Field != field || e.Ran != rterr.RanNo {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

func TestConfirmationOf(t *testing.T) {
	for _, c := range []struct {
		kind, payload string
		want          Confirmation
	}{
		{KindRun, `{"confirmation_state":"rejected"}`, ConfirmationRejected},
		{KindRun, `{"confirmation_state":"awaiting_confirmation"}`, AwaitingConfirmation},
		{KindRun, `{"confirmation_state":"confirmed"}`, Confirmed},
		{KindRun, `{"confirmation_state":"rejected"`, Confirmed},
		{KindRun, `{"is_confirmed":"rejected","confirmation_state":"confirmed"}`, ConfirmationRejected},
		{KindProcess, `{"confirmation_state":"rejected"}`, Confirmed},
		{"run_ipython", `{"confirmation_state":"rejected"}`, ConfirmationRejected},
	} {
		if got := ConfirmationOf(c.kind, []byte(c.payload)); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.kind, c.payload, got, c.want)
		}
	}
}

func FuzzDecodeHosted(f *testing.F) {
	f.Add([]byte(`{"command":"plan","task_list":[{"id":"1","title":null}]}`))
	f.Add([]byte(`{"recall_type":"knowledge"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if got, err := DecodeTaskTracking(payload); err == nil && !json.Valid(got.TaskList) {
			t.Errorf("%q: the list %q is no JSON", payload, got.TaskList)
		}
		if r, err := DecodeRecall(payload); err == nil && r.RecallType == "" {
			t.Errorf("%q: a recall without a type", payload)
		}
		_, _ = DecodeThink(payload)
		_ = ConfirmationOf(KindRun, payload)
	})
}
