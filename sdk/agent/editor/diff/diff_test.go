package diff

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestAsDifflib compares with what Python's difflib makes of the same texts (testdata: before, after, diff).
func TestAsDifflib(t *testing.T) {
	raw, err := os.ReadFile("testdata/difflib.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	if len(lines) < 60 {
		t.Fatalf("only %d pairs", len(lines))
	}
	for i, line := range lines {
		var pair [3]string
		if err := json.Unmarshal(line, &pair); err != nil {
			t.Fatal(err)
		}
		if got := Unified("/p", pair[0], pair[1]); got != pair[2] {
			t.Errorf("%d: %q to %q:\ngot  %q\nwant %q", i, pair[0], pair[1], got, pair[2])
		}
	}
}

func TestTooMuchWorkIsNotDone(t *testing.T) {
	lines := make([]string, 60_000)
	for i := range lines {
		lines[i] = strconv.Itoa(i % 150) // Each too rare to be left out, too frequent to be cheap.
	}
	before := slices.Clone(lines)
	slices.Reverse(lines)
	got := Unified("/p", "first\n"+strings.Join(before, "\n")+"\nlast", "first\n"+strings.Join(lines, "\n")+"\nlast")
	if !strings.HasPrefix(got, "--- /p\n+++ /p\n@@ -2,60000 +2,60000 @@\n-0\n") {
		t.Errorf("%.80q", got)
	}
}

func TestEqualTextsHaveNoDiff(t *testing.T) {
	if got := Unified("/p", "a\nb", "a\nb"); got != "" {
		t.Errorf("%q", got)
	}
}

// FuzzUnified applies the hunks: what comes out must be the other text.
func FuzzUnified(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nx\nc\ny")
	f.Add("", "a")
	f.Fuzz(func(t *testing.T, before, after string) {
		if before == after {
			return
		}
		m := newMatcher(strings.Split(before, "\n"), strings.Split(after, "\n"))
		var out []string
		at := 0
		for _, h := range m.hunks() {
			if h.a < at || h.aEnd > len(m.before) || h.bEnd > len(m.after) {
				t.Fatalf("impossible hunk %+v", h)
			}
			out = append(out, m.before[at:h.a]...)
			out = append(out, m.after[h.b:h.bEnd]...)
			at = h.aEnd
		}
		out = append(out, m.before[at:]...)
		if got := strings.Join(out, "\n"); got != after {
			t.Errorf("%q to %q: hunks make %q", before, after, got)
		}
	})
}
