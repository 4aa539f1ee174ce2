package ipython

import (
	"archive/zip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/kernel"
	"github.com/openhands-rt/openhands-rt/sdk/agent/skills"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	completed   = agentv1.Outcome_OUTCOME_COMPLETED
	interrupted = agentv1.Outcome_OUTCOME_INTERRUPTED
	timedOut    = agentv1.Outcome_OUTCOME_TIMED_OUT
	failed      = agentv1.Outcome_OUTCOME_FAILED
)

// step is one cell of a session: its content must be want, or begin and end with its two halves around "…".
type step struct {
	code, want string
	outcome    agentv1.Outcome
	timeout    float64
	images     int
	// interruptAt is the output at which the cell is interrupted.
	interruptAt string
}

func (l *lab) step(n int, s step) {
	l.Helper()
	r := cellRequest(s.code, s.timeout)
	r.ID = action.NewID()
	var once sync.Once
	got := l.do(r, func(out string) {
		if s.interruptAt != "" && strings.Contains(out, s.interruptAt) {
			once.Do(func() { l.interrupt(r.ID, agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT) })
		}
	})
	if s.outcome == 0 {
		s.outcome = completed
	}
	begin, end, cut := strings.Cut(s.want, "…")
	content := got.obs.Content
	if cut && (!strings.HasPrefix(content, begin) || !strings.HasSuffix(content, end)) || !cut && content != s.want {
		l.Errorf("cell %d: %s\n got %q\nwant %q", n, s.code, content, s.want)
	}
	if got.outcome != s.outcome || len(got.obs.Extras.ImageURLs) != s.images || got.obs.Observation != action.KindRunIPython {
		l.Errorf("cell %d: %v with %d images: %s", n, got.outcome, len(got.obs.Extras.ImageURLs), got.payload)
	}
	for _, image := range got.obs.Extras.ImageURLs {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(image, "data:image/png;base64,"))
		if err != nil || !strings.HasPrefix(string(raw), "\x89PNG\r\n") {
			l.Errorf("cell %d: no PNG: %.60s", n, image)
		}
	}
}

func (l *lab) interrupt(id string, level agentv1.InterruptLevel) {
	if ok, err := l.Interrupt(context.Background(), id, level); !ok || err != nil {
		l.Errorf("it could not be interrupted: %v, %v", ok, err)
	}
}

const noOutput = "[Code executed successfully with no output]"

// A session as in a notebook: what issue "the OpenHands door" asks for.
func TestANotebookLikeSession(t *testing.T) {
	l := newLab(t, func(c *kernel.Config) {
		c.Packages, c.Init = map[string]fs.FS{"skills": skills.Files()}, skills.Import
	})
	wheel := smallWheel(t)
	const trace = "---------------------------------------------------------------------------\n"
	for n, s := range []step{
		{code: "import csv, math, statistics", want: noOutput},
		{code: "rows = [{'x': x, 'y': x * x} for x in range(5)]\nlen(rows)", want: "5"},
		{code: "with open('data.csv', 'w', newline='') as f:\n    w = csv.DictWriter(f, ['x', 'y'])\n    w.writeheader()\n    w.writerows(rows)", want: noOutput},
		{code: "!wc -l < data.csv", want: "6"},
		{code: "def mean(key):\n    return statistics.mean(r[key] for r in rows)", want: noOutput},
		{code: "mean('x'), mean('y')", want: "(2, 6)"},
		{code: "for r in rows[:2]:\n    print(r)", want: "{'x': 0, 'y': 0}\n{'x': 1, 'y': 1}"},
		{code: "import matplotlib.pyplot as plt\nplt.plot([r['x'] for r in rows], [r['y'] for r in rows])\nplt.show()",
			want: "<Figure size 640x480 with 1 Axes>", images: 1},
		{code: "for n in range(2):\n    plt.figure()\n    plt.plot([n])\nplt.show()", images: 2,
			want: "<Figure size 640x480 with 1 Axes><Figure size 640x480 with 1 Axes>"},
		{code: "mean('z')", want: trace + "KeyError…KeyError: 'z'"},
		{code: "mean('x')", want: "2"},
		{code: "import small_thing", want: trace + "ModuleNotFoundError…ModuleNotFoundError: No module named 'small_thing'"},
		{code: "%pip install --quiet --no-index " + wheel, want: "Note: you may need to restart the kernel to use updated packages."},
		{code: "import small_thing\nsmall_thing.answer", want: "42"},
		{code: "import time\nprint('working')\ntime.sleep(1000)", interruptAt: "working", outcome: interrupted,
			want: "working\n" + trace + "KeyboardInterrupt…KeyboardInterrupt:"},
		{code: "time.sleep(1000)", timeout: 0.2, outcome: timedOut, want: "[Execution timed out (0.2 seconds).]"},
		{code: "len(rows), math.pi", want: "(5, 3.141592653589793)"},
		{code: "open_file('data.csv')", want: "[File: " + l.workspace + "/data.csv (6 lines total)]\n(this is the beginning of the file)\n1|x,y\n…(this is the end of the file)"},
		{code: "from openhands.runtime.plugins.agent_skills.agentskills import *\nprint(file_editor(command='str_replace', path='" + l.workspace +
			"/data.csv', old_str='4,16', new_str='4,17'))", want: "The file " + l.workspace + "/data.csv has been edited. …"},
		{code: "%%timeit -n 1 -r 1 -q\nmean('x')", want: noOutput},
		{code: "print(sum(r['y'] for r in rows))", want: "30"},
	} {
		l.step(n+1, s)
	}
}

// smallWheel is a package of pure Python.
func smallWheel(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "small_thing-1.0-py3-none-any.whl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	const info = "small_thing-1.0.dist-info/"
	for _, file := range [][2]string{
		{"small_thing.py", "answer = 42\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: small-thing\nVersion: 1.0\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", "small_thing.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		part, err := w.Create(file[0])
		if err == nil {
			_, err = io.WriteString(part, file[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOutputStreamsAndIsKept(t *testing.T) {
	l := newLab(t)
	s := l.cell("for i in range(200_000): print(f'{i:099d}')", 0)
	if len(s.out) != 20_000_000 || s.outcome != completed {
		t.Errorf("%d bytes came, %v", len(s.out), s.outcome)
	}
	if len(s.obs.Content) > 600<<10 || !strings.Contains(s.obs.Content, "\n[... Observation truncated due to length ...]\n") {
		t.Errorf("the content has %d bytes", len(s.obs.Content))
	}
}

func TestKillEndsTheKernelIfTheCellDoesNotEnd(t *testing.T) {
	l := newLab(t)
	deaf := "import signal, time\nsignal.signal(signal.SIGINT, lambda *_: None)\nprint('ready')\nwhile True: time.sleep(0.01)"
	r := cellRequest(deaf, 0)
	r.ID = action.NewID()
	var once sync.Once
	s := l.do(r, func(string) {
		once.Do(func() { l.interrupt(r.ID, agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL) })
	})
	want := "ready\n[The kernel died while the cell ran: signal: killed. Its variables, imports and definitions are gone; the next cell gets a new kernel.]"
	if s.outcome != interrupted || s.obs.Observation != action.KindError || s.obs.Content != want {
		t.Errorf("%v: %s", s.outcome, s.payload)
	}
	if s := l.cell("1", 0); s.obs.Content != "1" {
		t.Errorf("the next: %s", s.payload)
	}
}

func TestACellThatTakesNoNoticeSaysSo(t *testing.T) {
	l := newLab(t)
	r := cellRequest("import signal, time\nsignal.signal(signal.SIGINT, lambda *_: None)\nprint('ready')\ntime.sleep(6)", 0)
	r.ID = action.NewID()
	var once sync.Once
	s := l.do(r, func(string) {
		once.Do(func() { l.interrupt(r.ID, agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT) })
	})
	if s.outcome != interrupted || s.obs.Content != "ready"+leftCell && s.obs.Content != "ready\n"+leftCell {
		t.Errorf("%v: %s", s.outcome, s.payload)
	}
	if s := l.cell("2", 0); s.obs.Content != "2" { // The cell before it has ended by then, and nothing is lost.
		t.Errorf("the next: %s", s.payload)
	}
}

func TestWhatWaitsCanBeInterruptedAndTimesOut(t *testing.T) {
	l := newLab(t)
	r := cellRequest("import time\nprint('ready')\ntime.sleep(1000)", 0)
	r.ID = action.NewID()
	var once sync.Once
	var second seen
	var waits sync.WaitGroup
	l.do(r, func(string) {
		once.Do(func() {
			waits.Go(func() {
				second = l.cell("1", 0.1)
				l.interrupt(r.ID, agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE)
			})
		})
	})
	waits.Wait()
	if second.outcome != timedOut || second.obs.Content != "[Execution timed out (0.1 seconds).]" {
		t.Errorf("%v: %s", second.outcome, second.payload)
	}
}

func TestStateLossBetweenCellsIsTold(t *testing.T) {
	l := newLab(t)
	pid := l.cell("import os, threading\nx = 1\nos.getpid()", 0).obs.Content
	l.cell("threading.Timer(0.05, os._exit, (1,)).start()", 0)
	l.bash("while kill -0 " + pid + " 2>/dev/null; do sleep 0.01; done")
	for _, want := range []string{lostState + "False", "False"} {
		if s := l.cell("'x' in globals()", 0); s.obs.Content != want || s.outcome != completed {
			t.Errorf("%v: %s", s.outcome, s.payload)
		}
	}
}

func TestPayloadsAndMissingPython(t *testing.T) {
	l := newLab(t, func(c *kernel.Config) { c.Python, c.Env = "", []string{"PATH=" + t.TempDir()} })
	err := l.Execute(t.Context(), &agentv1.ExecuteRequest{Action: &agentv1.Action{Kind: action.KindRunIPython, Payload: []byte(`{}`)}},
		func(*agentv1.ActionEvent) error { return nil })
	if e := rterr.From(err); e == nil || e.Field != "action.payload.code" || e.Ran != rterr.RanNo {
		t.Errorf("%v", err)
	}
	s := l.cell("1", 0)
	if s.outcome != failed || s.err.GetReason() != agentv1.Reason_REASON_UNSUPPORTED || s.err.GetRan() != agentv1.Ran_RAN_NO ||
		!strings.Contains(s.err.GetRemedy(), "scripts/python") {
		t.Errorf("%v: %v", s.outcome, s.err)
	}
}

func TestCloseWhileACellRuns(t *testing.T) {
	l := newLab(t)
	r := cellRequest("import time\nprint('ready')\ntime.sleep(1000)", 0)
	var once sync.Once
	closed := make(chan error, 1)
	s := l.do(r, func(string) { once.Do(func() { go func() { closed <- l.Close(context.Background()) }() }) })
	if err := <-closed; err != nil || s.outcome != agentv1.Outcome_OUTCOME_LOST {
		t.Errorf("%v, %v", err, s.outcome)
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add([]byte(`{"code":"1","include_extra":false}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		task, err := New(nil).Prepare(payload)
		if (task == nil) == (err == nil) {
			t.Error("either a task or an error")
		}
		if err == nil && !json.Valid(payload) {
			t.Error("what is no JSON was taken")
		}
	})
}
