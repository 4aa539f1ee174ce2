package ipython

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/agent/kernel"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// testTree is the tree of all engines of this test process: a walked tree is all descendants of its process.
var testTree = sync.OnceValues(func() (sandbox.Tree, error) { return sandbox.NewTree(sandbox.TreeConfig{}) })

func TestMain(m *testing.M) {
	code := m.Run()
	if tree, err := testTree(); err == nil {
		if left, err := tree.Kill(); err != nil || left > 0 {
			fmt.Fprintf(os.Stderr, "%d processes were left behind (%v)\n", left, err)
			code = max(code, 1)
		}
		if err := tree.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// lab is an engine with the kind.
type lab struct {
	testing.TB
	*engine.Engine
	workspace, python string
}

func newLab(t testing.TB, change ...func(*kernel.Config)) *lab {
	t.Helper()
	base := os.Getenv("TEST_PYTHON")
	if base == "" {
		base, _ = filepath.Abs("../../../bin/python/bin/python3")
	}
	if _, err := os.Stat(base); err != nil {
		t.Skip("there is no Python with ipykernel; → scripts/python")
	}
	tree, err := testTree()
	if err != nil {
		t.Fatal(err)
	}
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: testLog{t}})
	home, workspace := t.TempDir(), t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "TERM=dumb"}
	cfg := kernel.Config{Dir: filepath.Join(t.TempDir(), "kernel"), Venv: filepath.Join(home, "venv"), Workspace: workspace, Tree: tree,
		Python: base, Env: env, Logger: log}
	for _, f := range change {
		f(&cfg)
	}
	k, err := kernel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Config{StateDir: t.TempDir(), Workspace: workspace, Env: env, Tree: tree, Logger: log,
		Kinds: map[string]engine.Kind{action.KindRunIPython: New(k)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &lab{TB: t, Engine: e, workspace: workspace, python: k.Python()}
}

type testLog struct{ t testing.TB }

func (w testLog) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// request is an action as a test writes it.
type request struct {
	ID      string          `json:"-"`
	Action  string          `json:"action"`
	Args    json.RawMessage `json:"args"`
	Timeout float64         `json:"timeout,omitempty"`
}

// seen is what became of an action.
type seen struct {
	out     string
	outcome agentv1.Outcome
	payload json.RawMessage
	err     *agentv1.ErrorDetail
	obs     action.Observation[action.RunIPythonExtras]
}

// do runs an action; each piece of its output is given to watch.
func (l *lab) do(r request, watch func(out string)) seen {
	l.Helper()
	a := &agentv1.Action{Id: r.ID, Kind: r.Action, Payload: r.Args}
	if r.Timeout > 0 {
		a.Timeout = durationpb.New(time.Duration(r.Timeout * float64(time.Second)))
	}
	var s seen
	err := l.Execute(l.Context(), &agentv1.ExecuteRequest{Action: a}, func(ev *agentv1.ActionEvent) error {
		if o := ev.GetOutput(); o != nil {
			s.out += string(o.GetData())
			if watch != nil {
				watch(s.out)
			}
		}
		if o := ev.GetObservation(); o != nil {
			s.outcome, s.payload, s.err = o.GetOutcome(), o.GetPayload(), o.GetError()
		}
		return nil
	})
	if err != nil {
		l.Fatalf("%s: %v", r.Args, err)
	}
	if len(s.payload) > 0 {
		if err := json.Unmarshal(s.payload, &s.obs); err != nil {
			l.Fatalf("%s: %v", s.payload, err)
		}
	}
	return s
}

// cell runs a cell without the extra lines.
func (l *lab) cell(code string, timeout float64) seen {
	l.Helper()
	return l.do(cellRequest(code, timeout), nil)
}

func cellRequest(code string, timeout float64) request {
	args, err := json.Marshal(map[string]any{"code": code, "include_extra": false})
	if err != nil {
		panic(err) // A string and a bool.
	}
	return request{Action: action.KindRunIPython, Args: args, Timeout: timeout}
}

// bash runs a command in the shell.
func (l *lab) bash(command string) {
	l.Helper()
	args, err := json.Marshal(map[string]any{"command": command})
	if err != nil {
		l.Fatal(err)
	}
	if s := l.do(request{Action: action.KindRun, Args: args}, nil); !strings.Contains(string(s.payload), `"exit_code":0`) {
		l.Fatalf("%s: %s", command, s.payload)
	}
}
