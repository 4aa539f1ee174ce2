package ipython

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const golden = "testdata/run_ipython.jsonl"

// pair is a request and its answer, one line each of the golden file. Paths are WORKSPACE and PYTHON.
type pair struct {
	Request request         `json:"request"`
	Answer  json.RawMessage `json:"answer"`
}

// TestGolden sends the requests in their order to one engine: state lives from one to the next.
func TestGolden(t *testing.T) {
	l := newLab(t)
	if err := os.Mkdir(filepath.Join(l.workspace, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	cells := 0
	for n := 1; lines.Scan(); n++ {
		var p pair
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		if p.Request.Action == "run_ipython" {
			cells++
		}
		got := l.normal(string(l.do(p.Request, nil).payload))
		if want := string(p.Answer); got != want && !*update {
			t.Errorf("line %d: %s\n got %s\nwant %s", n, p.Request.Args, got, want)
		}
		p.Answer = json.RawMessage(got)
		enc := json.NewEncoder(&written)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(p); err != nil {
			t.Fatal(err)
		}
	}
	if cells < 15 {
		t.Errorf("%d pairs are too few", cells)
	}
	if *update {
		if err := os.WriteFile(golden, written.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// normal puts names in the place of what differs from run to run.
func (l *lab) normal(payload string) string {
	payload = strings.ReplaceAll(payload, l.workspace, "WORKSPACE")
	payload = strings.ReplaceAll(payload, l.python, "PYTHON")
	payload = regexp.MustCompile(`"(username|hostname)":"[^"]*"`).ReplaceAllString(payload, `"$1":"X"`)
	return regexp.MustCompile(`"py_interpreter_path":("[^"]*"|null)`).ReplaceAllString(payload, `"py_interpreter_path":"X"`)
}
