package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag

// pair is one request and its answer, in the order of a session: what one does, the next one sees.
type pair struct {
	Name     string          `json:"name"`
	Sid      string          `json:"sid"`
	Kind     string          `json:"kind"`
	Payload  json.RawMessage `json:"payload"`
	Answer   json.RawMessage `json:"answer,omitempty"`
	Refusal  string          `json:"refusal,omitempty"`
	TaskFile string          `json:"task_file,omitempty"`
}

// TestGolden plays sessions of request and response pairs. Their answers were written from openhands-v0 2.1, 2.3, 2.11 and 8.2.
func TestGolden(t *testing.T) {
	for name, least := range map[string]int{"task_tracking": 15, "think_recall_confirmation": 15} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".json")
			var pairs []pair
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(raw, &pairs); err != nil {
				t.Fatal(err)
			}
			if len(pairs) < least {
				t.Errorf("%d pairs, at least %d are wanted", len(pairs), least)
			}
			files := open(t)
			for i, want := range pairs {
				got := ask(t, files, want)
				pairs[i] = got
				if !*update && !same(t, got, want) {
					g, _ := json.Marshal(got)
					w, _ := json.Marshal(want)
					t.Errorf("%s:\n got %s\nwant %s", want.Name, g, w)
				}
			}
			if *update {
				write(t, path, pairs)
			}
		})
	}
}

func write(t *testing.T, path string, pairs []pair) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(pairs); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, a, b pair) bool {
	t.Helper()
	return a.Refusal == b.Refusal && a.TaskFile == b.TaskFile && compact(t, a.Answer) == compact(t, b.Answer)
}

func compact(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	if len(raw) == 0 {
		return ""
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func ask(t *testing.T, files *Files, p pair) pair {
	t.Helper()
	p.Answer, p.Refusal, p.TaskFile = nil, "", ""
	a := &agentv1.Action{Kind: p.Kind, Payload: p.Payload}
	answers := New(files)
	if !answers.Takes(a) {
		p.Refusal = "goes to the sandbox"
		return p
	}
	got, err := answers.Answer("p", p.Sid, a)
	if err != nil {
		p.Refusal = rterr.ReasonOf(err).String() + " " + rterr.From(err).Field
		return p
	}
	p.Answer = got
	if text, err := files.Read("p", p.Sid, taskFile); err == nil {
		p.TaskFile = string(text)
	}
	return p
}

func open(t *testing.T) *Files {
	t.Helper()
	f, err := OpenFiles(filepath.Join(t.TempDir(), "made"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// broken is a disk that does not work.
type broken struct{}

func (broken) Write(string, string, string, []byte) error {
	return errors.New("no space left on device")
}
func (broken) Read(string, string, string) ([]byte, error) {
	return nil, errors.New("input/output error")
}

func TestADiskThatFailsIsTold(t *testing.T) {
	for payload, want := range map[string]string{
		`{"command":"plan","task_list":[]}`: `{"message":"Failed to write task list to session directory sessions/s1/TASKS.md: no space left on device",` +
			`"observation":"error","content":"Failed to write task list to session directory sessions/s1/TASKS.md: no space left on device",` +
			`"extras":{"error_id":""}}`,
		`{"command":"view"}`: `{"message":"Failed to read the task list from session directory sessions/s1/TASKS.md. Error: input/output error",` +
			`"observation":"task_tracking","content":"Failed to read the task list from session directory sessions/s1/TASKS.md. Error: input/output error",` +
			`"extras":{"command":"view","task_list":[]}}`,
	} {
		got, err := New(broken{}).Answer("p", "s1", &agentv1.Action{Kind: action.KindTaskTracking, Payload: []byte(payload)})
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", payload, err, got, want)
		}
	}
}

func TestALargePlanIsRefusedAndOneBelowTheLimitFitsTheJournal(t *testing.T) {
	plan := func(n int) []byte {
		return []byte(`{"command":"plan","task_list":[{"title":"` + strings.Repeat("x", n) + `"}]}`)
	}
	answers := New(open(t))
	got, err := answers.Answer("p", "s", &agentv1.Action{Kind: action.KindTaskTracking, Payload: plan(maxTasks - 100)})
	if err != nil || len(got) > 64<<10 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_, err = answers.Answer("p", "s", &agentv1.Action{Kind: action.KindTaskTracking, Payload: plan(maxTasks)})
	if !rterr.Is(err, rterr.InvalidArgument) {
		t.Errorf("%v", err)
	}
}

func TestEveryAnswerIsJSONWhateverIsSent(t *testing.T) {
	answers := New(open(t))
	for _, title := range []string{"\xff\xfe", "\u2028", "</script>", `\"`} {
		raw := []byte(`{"command":"plan","task_list":[{"title":"` + title + `"}]}`)
		got, err := answers.Answer("p", "s", &agentv1.Action{Kind: action.KindTaskTracking, Payload: raw})
		if err == nil && !json.Valid(got) {
			t.Errorf("%q: %s", title, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(action.KindTaskTracking, []byte(`{"command":"plan","task_list":[{"id":"1","title":"t","status":"done"}]}`))
	f.Add(action.KindRecall, []byte(`{"recall_type":"knowledge"}`))
	f.Add(action.KindRun, []byte(`{"command":"ls","confirmation_state":"rejected"}`))
	files, err := OpenFiles(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = files.Close() })
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		a := &agentv1.Action{Kind: kind, Payload: payload}
		answers := New(files)
		if !answers.Takes(a) {
			return
		}
		got, err := answers.Answer("p", "s", a)
		if (err == nil) != json.Valid(got) && err == nil {
			t.Errorf("%s %q: %q", kind, payload, got)
		}
		if err != nil && rterr.From(err).Ran != rterr.RanNo {
			t.Errorf("a refusal must say that nothing ran: %v", err)
		}
	})
}
