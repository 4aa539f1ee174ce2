package conformance

import (
	"strings"
	"testing"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

func TestStatusOrder(t *testing.T) {
	type all = []backendv1.RuntimeStatus
	for _, c := range []struct {
		name     string
		statuses all
		attach   bool
		want     string // part of the error; empty for right
	}{
		{"shortest", all{starting, started, ready}, false, ""},
		{"built", all{starting, building, starting, started, workspace, gitHooks, ready}, false, ""},
		{"hooks after ready", all{starting, started, ready, gitHooks, ready}, false, ""},
		{"before ready", all{starting, started}, false, ""},
		{"none", nil, false, "no status"},
		{"ready twice", all{starting, started, ready, ready}, false, "status 4: READY may not follow READY"},
		{"skipped", all{starting, ready}, false, "READY may not follow STARTING_RUNTIME"},
		{"begins with building", all{building, starting, started}, false, "status 1"},
		{"backwards", all{starting, started, starting}, false, "STARTING_RUNTIME may not follow RUNTIME_STARTED"},
		{"stopped", all{starting, stopped}, false, "STOPPED may not follow"},
		{"unspecified", all{0}, false, "UNSPECIFIED"},
		{"connected in error", all{starting, failed}, false, "connected in status ERROR"},
		{"recovered", all{starting, failed, starting, started, ready}, false, ""},
		{"attach, silent", nil, true, ""},
		{"attach, at once", all{ready}, true, ""},
		{"attach, from the start", all{starting, started, ready}, true, ""},
		{"attach, twice", all{ready, ready}, true, "READY may not follow READY"},
		{"new, at once", all{ready}, false, "READY may not follow STOPPED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := checkOrder(c.statuses, c.attach)
			if c.want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func stepEvent(name string, state backendv1.StepState, progress float64) *backendv1.ConnectResponse {
	return &backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Step{
		Step: &backendv1.Step{Name: name, State: state, Progress: &progress}}}
}

func TestSteps(t *testing.T) {
	const (
		begun  = backendv1.StepState_STEP_STATE_STARTED
		done   = backendv1.StepState_STEP_STATE_DONE
		failed = backendv1.StepState_STEP_STATE_FAILED
	)
	type all = []*backendv1.ConnectResponse
	for _, c := range []struct {
		name  string
		steps all
		right bool
	}{
		{"none", nil, true},
		{"right", all{stepEvent("a", begun, 0), stepEvent("a", begun, 0.5), stepEvent("a", done, 1), stepEvent("b", begun, 0), stepEvent("b", failed, 0)}, true},
		{"nameless", all{stepEvent("", begun, 0)}, false},
		{"stateless", all{stepEvent("a", 0, 0)}, false},
		{"never started", all{stepEvent("a", done, 1)}, false},
		{"done twice", all{stepEvent("a", begun, 0), stepEvent("a", done, 1), stepEvent("a", done, 1)}, false},
		{"never ended", all{stepEvent("a", begun, 0)}, false},
		{"progress", all{stepEvent("a", begun, 1.5), stepEvent("a", done, 1)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := checkSteps(c.steps); (err == nil) != c.right {
				t.Errorf("got %v", err)
			}
		})
	}
}
