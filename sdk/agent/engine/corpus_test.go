package engine

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

var update = flag.Bool("update", false, "write testdata/run.json anew; read the difference")

// conversation is a run of requests in one sandbox, each with its whole answer.
type conversation struct {
	Name  string
	Turns []*exchange
}

// exchange is a request and its answer as data: Args and Timeout (seconds) as a client sends them. Then are bytes that are written to
// the file "gate" while the command runs, which it waits for.
type exchange struct {
	Args        json.RawMessage
	Timeout     float64 `json:",omitempty"`
	Then        string  `json:",omitempty"`
	Observation json.RawMessage
}

// TestCorpusOfRun compares every byte of the answers with what the protocol's documented facts say. What is the machine's own is
// replaced: the workspace, user, host and python, and pids.
func TestCorpusOfRun(t *testing.T) {
	t.Parallel()
	const path = "testdata/run.json"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []*conversation
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	pairs := 0
	t.Cleanup(func() {
		if *update {
			writeCorpus(t, path, all)
		}
	})
	for _, c := range all {
		pairs += len(c.Turns)
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // Most of it is waiting for timeouts.
			l := newLab(t, func(c *Config) { c.NoChangeTimeout = 3 * time.Second })
			for i, x := range c.Turns {
				got := l.exchange(x)
				if *update {
					x.Observation = got
				} else if !bytes.Equal(got, compact(t, x.Observation)) {
					t.Errorf("turn %d, %s:\n got %s\nwant %s", i, x.Args, got, compact(t, x.Observation))
				}
			}
		})
	}
	if pairs < 40 {
		t.Errorf("the corpus has %d pairs only", pairs)
	}
}

func writeCorpus(t *testing.T, path string, all []*conversation) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func compact(t *testing.T, raw []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (l *lab) exchange(x *exchange) []byte {
	a := &agentv1.Action{Kind: action.KindRun, Payload: x.Args}
	if x.Timeout > 0 {
		a.Timeout = durationpb.New(time.Duration(x.Timeout * float64(time.Second)))
	}
	g := l.start(&agentv1.ExecuteRequest{Action: a})
	if x.Then != "" {
		if err := os.WriteFile(l.cfg.Workspace+"/gate", []byte(x.Then), 0); err != nil {
			l.Fatal(err)
		}
	}
	return l.anywhere(g.wait().obs.GetPayload())
}

// anywhere is an observation as it would be on any machine.
func (l *lab) anywhere(payload []byte) []byte {
	var o map[string]any
	if err := json.Unmarshal(payload, &o); err != nil {
		l.Fatal(err)
	}
	if m, ok := o["extras"].(map[string]any)["metadata"].(map[string]any); ok && m["username"] != "" {
		m["username"], m["hostname"], m["py_interpreter_path"] = "user", "host", "python"
		if m["pid"].(float64) > 0 {
			m["pid"] = 1
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		l.Fatal(err)
	}
	return []byte(strings.ReplaceAll(strings.TrimSpace(b.String()), l.cfg.Workspace, "/workspace"))
}
