package editor

import (
	"os"
	"strings"
	"testing"
)

func TestUndoOutlivesTheAgent(t *testing.T) {
	l := newLab(t)
	file("f", "a\n")(t, l.workspace)
	l.command("str_replace", l.workspace+"/f", args{"old_str": "a", "new_str": "b"})
	l.shut()
	l.open("")
	if got := l.command("undo_edit", l.workspace+"/f", nil); !strings.HasPrefix(got, "Last edit to ") || regular(t, l.workspace)["f"] != "a\n" {
		t.Errorf("%q", got)
	}
}

func TestAHistoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/partial", []byte("half"), 0o600))
	h, err := openHistory(dir, 100)
	must(t, err)
	for range 12 {
		must(t, h.push("/small", "x"))
	}
	if n := len(h.kept[keyOf("/small")]); n != historyEntries {
		t.Errorf("%d texts of one file", n)
	}
	must(t, h.push("/large", strings.Repeat("y", 95)))
	if h.size > 100 {
		t.Errorf("%d bytes are kept", h.size)
	}
	again, err := openHistory(dir, 100)
	must(t, err)
	if again.size != h.size {
		t.Errorf("%d bytes are found again, want %d", again.size, h.size)
	}
	if text, found, err := again.last("/large"); len(text) != 95 || !found || err != nil {
		t.Errorf("%q %v %v", text, found, err)
	}
}
