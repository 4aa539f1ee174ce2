package engine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/record"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// victimEnv makes the test binary an agent that is to be killed; its value is the folder of its engine.
const victimEnv = "ENGINE_TEST_VICTIM"

var victimActions = []struct {
	id, kind string
	payload  any
}{
	{"done-p", action.KindProcess, script("echo out; echo err >&2")},
	{"done-r", action.KindRun, action.Run{Command: "echo shell"}},
	{"big", action.KindProcess, script("head -c 300000 /dev/zero")},
	{"cut-p", action.KindProcess, script("echo begun; sleep 1000")},
	{"cut-r", action.KindRun, action.Run{Command: "echo begun; sleep 1000"}},
	{"queued", action.KindRun, action.Run{Command: "echo never"}},
}

// victim runs the actions, says when all are where they should be, and waits for its death.
func victim(dir string) {
	die := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	tree, err := sandbox.NewTree(sandbox.TreeConfig{})
	die(err)
	e, err := New(Config{StateDir: dir + "/state", Workspace: dir, Env: testEnv(dir), Tree: tree})
	die(err)
	for i, a := range victimActions {
		begun := make(chan struct{}, 1)
		go func() {
			_ = e.Execute(context.Background(), request(&testing.B{}, a.id, a.kind, a.payload, 0), func(ev *agentv1.ActionEvent) error {
				if i == 5 || i < 3 && ev.GetObservation() != nil || i >= 3 && ev.GetOutput() != nil {
					select {
					case begun <- struct{}{}:
					default:
					}
				}
				return nil
			})
		}()
		<-begun
	}
	fmt.Println("ready")
	select {}
}

func TestAKilledAgentsActions(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { // What the killed agent has left is ours now.
		if tree, err := testTree(); err == nil {
			_, _ = tree.Kill()
		}
	})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if line != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	l := newLab(t, func(c *Config) { c.StateDir, c.Workspace = dir+"/state", dir })
	for i := range 2 { // The second engine reads what the first has made of it.
		l.checkVictim()
		if i == 0 {
			l.shut()
			l.open()
		}
	}
}

func (l *lab) checkVictim() {
	l.Helper()
	for i, a := range victimActions {
		s := l.exec(request(l, a.id, a.kind, a.payload, 0))
		switch a.id {
		case "done-p":
			if s.stdout() != "out\n" || s.stderr() != "err\n" || s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_COMPLETED {
				l.Errorf("%s: %q %q %v", a.id, s.stdout(), s.stderr(), s.obs)
			}
		case "done-r":
			if s.pty() != "shell\n" || s.run.Content != "shell" {
				l.Errorf("%s: %q %+v", a.id, s.pty(), s.run)
			}
		case "big":
			if len(s.stdout()) != 300000 {
				l.Errorf("%s: %d bytes", a.id, len(s.stdout()))
			}
		default:
			ran := agentv1.Ran_RAN_UNKNOWN
			if a.id == "queued" {
				ran = agentv1.Ran_RAN_NO
			}
			e := s.obs.GetError()
			if s.obs.Outcome != agentv1.Outcome_OUTCOME_LOST || e.GetReason() != agentv1.Reason_REASON_OUTCOME_UNKNOWN || e.GetRan() != ran {
				l.Errorf("%d %s: %v", i, a.id, s.obs)
			}
		}
	}
}

func TestTooNewRecordsAreRefused(t *testing.T) {
	dir := t.TempDir()
	tree, err := testTree()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/actions", record.SchemaFrame(record.Schema+1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{StateDir: dir, Workspace: dir, Tree: tree, Env: testEnv(dir)})
	if !rterr.Is(err, rterr.Integrity) || !strings.Contains(err.Error(), "newer") {
		t.Error(err)
	}
}

func TestCloseRecordsWhatItCutsOff(t *testing.T) {
	l := newLab(t)
	for _, static := range []bool{false, true} {
		g := l.start(request(t, "", action.KindRun, action.Run{Command: "echo up; sleep 100", IsStatic: static}, 0)).output()
		l.shut()
		s := g.wait()
		if e := s.obs.GetError(); s.obs.Outcome != agentv1.Outcome_OUTCOME_LOST || e.GetRan() != agentv1.Ran_RAN_UNKNOWN || s.pty() != "up\n" {
			t.Errorf("%v %q", s.obs, s.pty())
		}
		l.open()
		r, err := l.Get(g.id)
		if err != nil || !r.GetFinishedAt().AsTime().Equal(s.obs.GetFinishedAt().AsTime()) {
			t.Errorf("the next engine says %v (%v)", r, err)
		}
	}
}

func TestCloseClosesTheRecordsWithoutTime(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = l.Close(ctx) // In time or not.
	l.shell.close()
	l.left.close()
	l.work.Wait()
	if err := l.journal.Put(&agentv1.ActionRecord{Id: "late"}); !rterr.Is(err, rterr.Unavailable) {
		t.Errorf("the records are open: %v", err)
	}
	l.open()
}
