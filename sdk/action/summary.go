package action

import (
	"strings"
	"unicode/utf8"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// maxSummary is the length of a summary, in bytes.
const maxSummary = 200

// Summary is the first line of what an action does, for lists: the command of a run, the code of a cell, the program and arguments
// of a process, the path of a read, write or edit, else the kind. At most 200 bytes, always valid UTF-8.
func Summary(a *agentv1.Action) string {
	text := a.GetKind()
	switch a.GetKind() {
	case KindRun:
		if r, err := DecodeRun(a.GetPayload()); err == nil {
			text = r.Command
		}
	case KindRunIPython:
		if r, err := DecodeRunIPython(a.GetPayload()); err == nil {
			text = r.Code
		}
	case KindProcess:
		if p, err := DecodeProcess(a.GetPayload()); err == nil {
			text = strings.Join(p.Argv, " ")
		}
	case KindRead, KindWrite, KindEdit:
		var p struct{ Path, Command string }
		if err := decode(a.GetPayload(), &p, true); err == nil {
			text = strings.TrimSpace(text+" "+p.Command) + " " + p.Path
		}
	}
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.ToValidUTF8(line, "\uFFFD")
	if len(line) <= maxSummary {
		return line
	}
	cut := maxSummary - len("…")
	for !utf8.RuneStart(line[cut]) {
		cut--
	}
	return line[:cut] + "…"
}
