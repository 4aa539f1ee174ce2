package action

import (
	"strings"
	"testing"
	"unicode/utf8"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

func TestSummary(t *testing.T) {
	for _, c := range []struct{ kind, payload, want string }{
		{KindRun, `{"command":"ls -l\nrm x"}`, "ls -l"},
		{KindRun, `{`, "run"},
		{KindProcess, `{"argv":["sh","-c","exit 3"]}`, "sh -c exit 3"},
		{KindEdit, `{"path":"/a\nb","command":"view"}`, "edit view /a"},
		{KindRead, `{"path":"/a"}`, "read /a"},
		{KindWrite, `[]`, "write"},
		{KindRunIPython, `{"code":"\nimport os\nos.getcwd()"}`, "import os"},
		{"browse", `{"url":"x"}`, "browse"},
	} {
		if got := Summary(&agentv1.Action{Kind: c.kind, Payload: []byte(c.payload)}); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.kind, c.payload, got, c.want)
		}
	}
	long := Summary(&agentv1.Action{Kind: KindRun, Payload: []byte(`{"command":"` + strings.Repeat("ä", 300) + `"}`)})
	if len(long) > 200 || !utf8.ValidString(long) || !strings.HasSuffix(long, "…") {
		t.Errorf("not cut well: %d bytes, %q", len(long), long)
	}
}
