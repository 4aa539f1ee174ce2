package lifecycle_test

import (
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestNumbersAndNamesAreThoseOfTheWire(t *testing.T) {
	values := backendv1.RuntimeStatus(0).Descriptor().Values()
	if values.Len() != len(lifecycle.Statuses())+1 {
		t.Fatalf("the wire has %d statuses, the machine %d", values.Len()-1, len(lifecycle.Statuses()))
	}
	for _, s := range lifecycle.Statuses() {
		if got, want := backendv1.RuntimeStatus(s).String(), "RUNTIME_STATUS_"+s.String(); got != want {
			t.Errorf("number %d is %s on the wire, want %s", s, got, want)
		}
		if got, want := s.OpenHands(), "STATUS$"+s.String(); got != want {
			t.Errorf("%s: %q for OpenHands, want %q", s, got, want)
		}
		if back, ok := lifecycle.ParseStatus(strings.ToLower(s.OpenHands())); !ok || back != s {
			t.Errorf("%s does not come back from its name", s)
		}
	}
	if _, ok := lifecycle.ParseStatus("UNSPECIFIED"); ok {
		t.Error("UNSPECIFIED was taken for a status")
	}
}

func TestEventNamesComeBack(t *testing.T) {
	for _, e := range lifecycle.Events() {
		if back, ok := lifecycle.ParseEvent(e.String()); !ok || back != e {
			t.Errorf("event %d (%s) does not come back from its name", e, e)
		}
	}
}

func TestEveryPassingStatusHasALimit(t *testing.T) {
	for _, s := range lifecycle.Statuses() {
		resting := s == lifecycle.Ready || s == lifecycle.Stopped || s == lifecycle.Error
		if got := lifecycle.Limit(s); (got > 0) == resting {
			t.Errorf("%s has the limit %s", s, got)
		}
		if lifecycle.Limit(s) > 0 {
			if to, _, err := lifecycle.Next(s, lifecycle.EventFailed); err != nil || to != lifecycle.Error {
				t.Errorf("the end of the limit of %s leads to %s, %v", s, to, err)
			}
		}
	}
}

// The table as seed text, written out by hand: any change of the code's table has to be made here too.
const wanted = `
STOPPED: connect=STARTING_RUNTIME close=STOPPED
BUILDING_RUNTIME: built=STARTING_RUNTIME failed=ERROR connection lost=ERROR_RUNTIME_DISCONNECTED close=STOPPED
STARTING_RUNTIME: build=BUILDING_RUNTIME sandbox running=RUNTIME_STARTED failed=ERROR connection lost=ERROR_RUNTIME_DISCONNECTED close=STOPPED
RUNTIME_STARTED: set up workspace=SETTING_UP_WORKSPACE ready=READY failed=ERROR connection lost=ERROR_RUNTIME_DISCONNECTED close=STOPPED
SETTING_UP_WORKSPACE: set up git hooks=SETTING_UP_GIT_HOOKS ready=READY failed=ERROR connection lost=ERROR_RUNTIME_DISCONNECTED close=STOPPED
SETTING_UP_GIT_HOOKS: ready=READY failed=ERROR connection lost=ERROR_RUNTIME_DISCONNECTED close=STOPPED
READY: set up workspace=SETTING_UP_WORKSPACE set up git hooks=SETTING_UP_GIT_HOOKS resume=STARTING_RUNTIME restart=STARTING_RUNTIME failed=ERROR connection lost=ERROR_RUNTIME_DISCONNECTED close=STOPPED
ERROR: failed=ERROR recover=STARTING_RUNTIME close=STOPPED
ERROR_RUNTIME_DISCONNECTED: failed=ERROR connection lost=ERROR_RUNTIME_DISCONNECTED recover=STARTING_RUNTIME adopted=READY close=STOPPED
`

func TestTheTableIsTheOneThatWasDecided(t *testing.T) {
	var b strings.Builder
	b.WriteString("\n")
	for _, s := range lifecycle.Statuses() {
		b.WriteString(s.String() + ":")
		for _, e := range lifecycle.Allowed(s) {
			to, _, err := lifecycle.Next(s, e)
			if err != nil {
				t.Fatalf("%s in %s: allowed, but refused: %v", e, s, err)
			}
			b.WriteString(" " + e.String() + "=" + to.String())
		}
		b.WriteString("\n")
	}
	if b.String() != wanted {
		t.Errorf("table:\n%s\nwant:\n%s", b.String(), wanted)
	}
}

func TestIllegalEventsNameBoth(t *testing.T) {
	to, effects, err := lifecycle.Next(lifecycle.Stopped, lifecycle.EventReady)
	e := rterr.From(err)
	if to != lifecycle.Stopped || effects != nil || e == nil || e.Reason != rterr.IllegalState || e.Ran != rterr.RanNo {
		t.Fatalf("got %s, %v, %v", to, effects, err)
	}
	if !strings.Contains(err.Error(), "STOPPED") || !strings.Contains(err.Error(), `"ready"`) {
		t.Errorf("the text does not name both: %v", err)
	}
	if e.Evidence["status"] != "STOPPED" || e.Evidence["event"] != "ready" || e.Evidence["allowed"] != "connect, close" {
		t.Errorf("evidence %v", e.Evidence)
	}
}

func TestNothingIsLegalOutsideTheNine(t *testing.T) {
	for _, s := range []lifecycle.Status{lifecycle.Unspecified, 10, 255} {
		for _, e := range lifecycle.Events() {
			if _, _, err := lifecycle.Next(s, e); err == nil {
				t.Errorf("status %d took %s", s, e)
			}
		}
	}
	for _, s := range lifecycle.Statuses() {
		for _, e := range []lifecycle.Event{lifecycle.EventUnspecified, 15, 255} {
			if _, _, err := lifecycle.Next(s, e); err == nil {
				t.Errorf("%s took event %d", s, e)
			}
		}
	}
}

func TestPathsAreLegalAndArrive(t *testing.T) {
	for _, from := range lifecycle.Statuses() {
		for _, to := range lifecycle.Statuses() {
			way, ok := lifecycle.Path(from, to)
			if !ok {
				continue
			}
			at := from
			for _, e := range way {
				next, _, err := lifecycle.Next(at, e)
				if err != nil {
					t.Fatalf("path %s to %s: %v", from, to, err)
				}
				at = next
			}
			if at != to {
				t.Errorf("path %s to %s ends in %s", from, to, at)
			}
		}
	}
}

func TestPathsOfABackendThatSkipsStatuses(t *testing.T) {
	for _, c := range []struct {
		from, to lifecycle.Status
		want     string
	}{
		{lifecycle.Starting, lifecycle.Ready, "sandbox running, ready"},
		{lifecycle.Stopped, lifecycle.Building, "connect, build"},
		{lifecycle.Building, lifecycle.Started, "built, sandbox running"},
		{lifecycle.Started, lifecycle.SettingUpGitHooks, "set up workspace, set up git hooks"},
		{lifecycle.Ready, lifecycle.Ready, ""},
		{lifecycle.Ready, lifecycle.Starting, "none"},
		{lifecycle.Starting, lifecycle.Stopped, "none"},
		{lifecycle.Starting, lifecycle.Error, "none"},
		{lifecycle.Disconnected, lifecycle.Ready, "none"},
		{lifecycle.Unspecified, lifecycle.Unspecified, "none"},
	} {
		way, ok := lifecycle.Path(c.from, c.to)
		var texts []string
		for _, e := range way {
			texts = append(texts, e.String())
		}
		got := strings.Join(texts, ", ")
		if !ok {
			got = "none"
		}
		if got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

func TestEventForIsTheOneStep(t *testing.T) {
	if e, ok := lifecycle.EventFor(lifecycle.Ready, lifecycle.Starting); !ok || e != lifecycle.EventResume {
		t.Errorf("READY to STARTING_RUNTIME: %s, %v", e, ok)
	}
	if e, ok := lifecycle.EventFor(lifecycle.Starting, lifecycle.Ready); ok {
		t.Errorf("STARTING_RUNTIME to READY in one step: %s", e)
	}
	if e, ok := lifecycle.EventFor(lifecycle.Disconnected, lifecycle.Ready); !ok || e != lifecycle.EventAdopted {
		t.Errorf("disconnected to READY: %s, %v", e, ok)
	}
}
