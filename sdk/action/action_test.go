package action

import (
	"strings"
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestNormalizeFillsInAndRefuses(t *testing.T) {
	a := &agentv1.Action{Kind: KindRun, Payload: []byte(`{"command":"ls"}`)}
	if err := Normalize(a); err != nil {
		t.Fatal(err)
	}
	if CheckID(a.GetId()) != nil || a.GetDigest() != Digest(KindRun, 0, a.GetPayload()) {
		t.Errorf("not filled in: %v", a)
	}
	for field, bad := range map[string]*agentv1.Action{
		"action":         nil,
		"action.id":      {Id: "../x", Kind: "run"},
		"action.kind":    {Id: "x"},
		"action.payload": {Kind: "run", Payload: make([]byte, MaxPayload+1)},
		"action.digest":  {Kind: "run", Digest: "sha256:00"},
		"action.timeout": {Kind: "run", Timeout: durationOf(-time.Second)},
	} {
		e := rterr.From(Normalize(bad))
		if e == nil || e.Reason != rterr.InvalidArgument || e.Field != field || e.Ran != rterr.RanNo {
			t.Errorf("%s: got %+v", field, e)
		}
	}
}

func TestDigestTellsActionsApart(t *testing.T) {
	base := Digest("run", time.Second, []byte("{}"))
	for name, other := range map[string]string{
		"kind":    Digest("process", time.Second, []byte("{}")),
		"timeout": Digest("run", 2*time.Second, []byte("{}")),
		"payload": Digest("run", time.Second, []byte("{ }")),
	} {
		if other == base {
			t.Errorf("%s does not count", name)
		}
	}
}

func TestDecodeProcessNamesTheField(t *testing.T) {
	for payload, field := range map[string]string{
		`{"argv":[]}`:                            "action.payload.argv",
		`{"argv":["a\u0000b"]}`:                  "action.payload.argv",
		`{"argv":["x"],"env":{"A=B":"c"}}`:       "action.payload.env",
		`{"argv":["x"],"cwd":"\u0000"}`:          "action.payload.cwd",
		`{"argv":["x"],"shell":true}`:            "action.payload",
		`{"argv":["x"]} {}`:                      "action.payload",
		`{"argv":["x"],"tty":{"rows":70000000}}`: "action.payload",
	} {
		_, err := DecodeProcess([]byte(payload))
		if e := rterr.From(err); e == nil || e.Field != field {
			t.Errorf("%s: got %v", payload, err)
		}
	}
}

func TestDecodeRun(t *testing.T) {
	r, err := DecodeRun([]byte(`{"command":"ls","cwd":null,"thought":"x","is_input":true}`))
	if err != nil || r.Command != "ls" || !r.IsInput {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := DecodeRun([]byte(`{}`)); !rterr.Is(err, rterr.InvalidArgument) {
		t.Errorf("no command: %v", err)
	}
	long := `{"command":"` + strings.Repeat("x", MaxCommand+1) + `"}`
	if _, err := DecodeRun([]byte(long)); rterr.From(err).Field != "action.payload.command" {
		t.Errorf("too long: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"argv":["sh"],"tty":{"rows":1},"env":{"A":"b"}}`))
	f.Add([]byte(`{"command":"ls","cwd":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if p, err := DecodeProcess(payload); err == nil && len(p.Argv) == 0 {
			t.Error("an empty argv was taken")
		}
		if r, err := DecodeRun(payload); err == nil && len(r.Command) > MaxCommand {
			t.Error("too long a command was taken")
		}
	})
}
