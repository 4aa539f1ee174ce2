package engine

import (
	"os"
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
)

// reserved is a run action that has its place and is not recorded yet.
func (l *lab) reserved(id string, run action.Run) (place, *live) {
	l.Helper()
	v := &live{id: id, input: newInput(), by: l.shell, record: &agentv1.ActionRecord{Id: id, Kind: action.KindRun}}
	p, err := l.shell.job(&run).reserve(v)
	if err != nil {
		l.Fatal(err)
	}
	return p, v
}

func TestAShellThatBecomesReadyRunsNothingThatIsNotRecorded(t *testing.T) {
	l := newLab(t)
	l.sh("true")
	p, v := l.reserved("new", action.Run{Command: "echo x >>count"})
	r := l.shell
	r.mu.Lock()
	s := r.session
	r.ready = false
	r.mu.Unlock()
	s.Idle(shell.Report{}) // As the first report of a new shell, between the place and the record.
	r.mu.Lock()
	if turn := r.turn; turn.begun || r.busy || !r.ready {
		t.Errorf("begun %v, busy %v, ready %v", turn.begun, r.busy, r.ready)
	}
	r.mu.Unlock()
	if err := l.enter(v); err != nil {
		t.Fatal(err)
	}
	p.begin()
	s2 := &seen{}
	if err := l.Attach(l.ctx(), &agentv1.AttachRequest{ActionId: "new"}, s2.take); err != nil {
		t.Fatal(err)
	}
	if s2.finish(t); s2.obs.ExitCode == nil || s2.obs.GetExitCode() != 0 {
		t.Errorf("%v", s2.obs)
	}
	l.ranOnce()
}

// ranOnce looks at the file that a command has added a line to.
func (l *lab) ranOnce() {
	l.Helper()
	if count, err := os.ReadFile(l.cfg.Workspace + "/count"); err != nil || string(count) != "x\n" {
		l.Errorf("it ran %d times (%v)", len(count)/2, err)
	}
}

func TestAShellThatBecomesReadyDoesNotRunAStaticCommandAgain(t *testing.T) {
	l := newLab(t)
	l.sh("true")
	g := l.start(request(t, "", action.KindRun, action.Run{Command: "echo x >>count; echo up; read x", IsStatic: true}, 0)).output()
	r := l.shell
	r.mu.Lock()
	s := r.session
	r.ready = false
	r.mu.Unlock()
	s.Idle(shell.Report{})
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Data: []byte("\n")}); err != nil {
		t.Fatal(err)
	}
	if s := g.wait(); s.obs.GetExitCode() != 0 {
		t.Errorf("%v", s.obs)
	}
	l.sh("true")
	l.ranOnce()
}

func TestAQueuedActionThatIsBeingRecordedHoldsUpThoseBehindIt(t *testing.T) {
	l := newLab(t)
	first := l.start(request(t, "", action.KindRun, action.Run{Command: "echo up; read x"}, 0)).output()
	p, v := l.reserved("second", action.Run{Command: "echo x >>count"})
	third := l.start(request(t, "", action.KindRun, action.Run{Command: "cat count"}, 0))
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: first.id, Data: []byte("\n")}); err != nil {
		t.Fatal(err)
	}
	first.wait()
	if r, err := l.Get(third.id); err != nil || r.State != agentv1.ActionState_ACTION_STATE_QUEUED || p.runs {
		t.Errorf("%v %v", r, err)
	}
	if err := l.enter(v); err != nil {
		t.Fatal(err)
	}
	p.begin()
	if s := third.wait(); s.run.Content != "x" {
		t.Errorf("%q", s.run.Content)
	}
	fourth, _ := l.reserved("fourth", action.Run{Command: "echo x >>count"})
	fifth := l.start(request(t, "", action.KindRun, action.Run{Command: "cat count"}, time.Minute))
	fourth.retract()
	if s := fifth.wait(); s.run.Content != "x" {
		t.Errorf("%q", s.run.Content)
	}
}

func TestAStaticCommandDoesNotEndWithTheShellsOwn(t *testing.T) {
	l := newLab(t)
	l.sh("mkfifo gate")
	l.runFor("read x <gate; (exit 7)", 100*time.Millisecond) // It runs on.
	g := l.start(request(t, "", action.KindRun, action.Run{Command: "echo up; read x; stty size", IsStatic: true}, 0)).output()
	if err := l.Resize(&agentv1.ResizeRequest{ActionId: g.id, Rows: 12, Cols: 34, Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.cfg.Workspace+"/gate", []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Data: []byte("\n")}); err != nil {
		t.Fatal(err)
	}
	if s := g.wait(); s.obs.GetExitCode() != 0 || s.run.Content != "up\n\n12 34" {
		t.Errorf("%v %q", s.obs, s.run.Content)
	}
	if s := l.exec(request(t, "", action.KindRun, action.Run{Command: ""}, 0)); s.obs.GetExitCode() != 7 {
		t.Errorf("the command that ran on: %v", s.obs)
	}
}
