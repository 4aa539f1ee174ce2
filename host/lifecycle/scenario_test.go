package lifecycle_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
)

var update = flag.Bool("update", false, "write the traces into testdata")

// A scenario file has blocks of "script", "----" and the trace it gives, parted by empty lines. A script's lines are events, or
// "at STATUS" to start over from there.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(raw))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(raw) {
				t.Errorf("the trace differs (-update writes it):\n%s", got)
			}
		})
	}
}

func play(t *testing.T, file string) string {
	t.Helper()
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(file), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		script, _, _ := strings.Cut(block, "\n----")
		out.WriteString(script + "\n----\n")
		trace(t, &out, strings.Split(script, "\n"))
	}
	return out.String()
}

func trace(t *testing.T, out *strings.Builder, script []string) {
	t.Helper()
	at := lifecycle.Stopped
	for _, line := range script {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "at "); ok {
			if at, ok = lifecycle.ParseStatus(name); !ok {
				t.Fatalf("no status %q", name)
			}
			continue
		}
		event, ok := lifecycle.ParseEvent(line)
		if !ok {
			t.Fatalf("no event %q", line)
		}
		to, effects, err := lifecycle.Next(at, event)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", at, err)
			continue
		}
		fmt.Fprintf(out, "%s -(%s)-> %s\n", at, event, to)
		for _, e := range effects {
			fmt.Fprintf(out, "  %s\n", e)
		}
		at = to
	}
}

// The drawings are goldens too: docs embed them.
func TestDrawings(t *testing.T) {
	for name, got := range map[string]string{
		"states.dot": lifecycle.Dot(), "states.mmd": lifecycle.Mermaid(), "states.md": lifecycle.Markdown(),
	} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (-update writes it):\n%s", name, got)
		}
	}
}
