package engine

import (
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// loops are commands that an INTERRUPT must end wherever in them it hits: between two commands, while the shell forks, while the
// child is not yet the program that it is to be.
var loops = map[string]string{
	"a waiting loop":    "while [ ! -e gate ]; do sleep 0.05; done",
	"external commands": "while :; do /bin/true; done",
	"builtins":          "while :; do :; done",
	"subshells":         "while :; do (:); done",
	"substitutions":     "while :; do x=$(/bin/true); done",
	"pipelines":         "while :; do /bin/true | cat; done",
	"a pipe of loops":   "while :; do sleep 0.001; done | cat",
	"until":             "until false; do sleep 0.002; done",
	"a function":        "f() { /bin/true; /bin/true; }; while :; do f; done",
}

// interruptsPerLoop is how often each loop is interrupted, each time at another moment.
func interruptsPerLoop() int {
	if n, err := strconv.Atoi(os.Getenv("ENGINE_TEST_INTERRUPTS")); err == nil {
		return n
	}
	return 25
}

func TestInterruptEndsEveryLoop(t *testing.T) {
	for name, command := range loops {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			for i := range interruptsPerLoop() {
				g := l.start(request(t, "", action.KindRun, action.Run{Command: "kept=" + strconv.Itoa(i) + "; echo up; " + command}, 0)).output()
				// Not a wait for anything: it makes the moment another one.
				<-time.After(time.Duration(rand.Intn(8000)) * time.Microsecond)
				g.interrupt(levelInterrupt)
				s := g.wait()
				if name == "a pipe of loops" && s.obs.GetExitCode() == 0 {
					continue // The last program of the pipe had not begun, and saw its end instead.
				}
				if s.obs.Outcome != agentv1.Outcome_OUTCOME_INTERRUPTED || s.obs.GetExitCode() != 130 {
					t.Fatalf("%d: %v, exit %v: %q", i, s.obs.Outcome, s.obs.GetExitCode(), s.run.Content)
				}
				if !strings.Contains(s.run.Content, "up") {
					continue // Its output was the newline that the last interrupt made; it was hit before it began.
				}
				if s := l.sh("echo $? $kept"); strings.TrimSpace(s.run.Content) != "130 "+strconv.Itoa(i) {
					t.Fatalf("%d: the shell kept %q", i, s.run.Content)
				}
			}
		})
	}
}

func TestAProgramThatHandlesAnInterruptGetsItOnce(t *testing.T) {
	l := newLab(t)
	g := l.start(request(t, "", action.KindRun, action.Run{Command: `bash -c 'trap "echo caught" INT; echo up
		while ! read -t 5 -r x; do :; done; echo "$x"'; echo after`}, 0)).output()
	g.interrupt(levelInterrupt)
	// All looks come and go: the last timer is set when the one before fires, so there is one more than there are tries.
	<-time.After(interruptTries * waitInterruptedMost)
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Data: []byte("go\n")}); err != nil {
		t.Fatal(err)
	}
	s := g.wait()
	if n := strings.Count(s.run.Content, "caught"); n != 1 || !strings.HasSuffix(s.run.Content, "go\nafter") || s.obs.GetExitCode() != 0 {
		t.Errorf("%d times: %q, exit %v", n, s.run.Content, s.obs.ExitCode)
	}
}

func TestWhatFollowsAnInterruptRunsOnce(t *testing.T) {
	l := newLab(t)
	for i := range interruptsPerLoop() {
		g := l.start(request(t, "", action.KindRun, action.Run{Command: "echo up; (exit 3)"}, 0)).output()
		next := l.start(request(t, "", action.KindRun, action.Run{Command: "echo x >>count; echo $((n += 1)) $_"}, 0))
		// It hits the command, the shell after it, or comes too late. Never does it hit the next command.
		if _, err := l.Interrupt(l.ctx(), g.id, levelInterrupt); err != nil {
			t.Fatal(err)
		}
		g.wait()
		if s := next.wait(); !strings.Contains(s.run.Content, strconv.Itoa(i+1)) || s.obs.GetExitCode() != 0 {
			t.Fatalf("%d: %q, exit %v", i, s.run.Content, s.obs.ExitCode)
		}
	}
	count, err := os.ReadFile(l.cfg.Workspace + "/count")
	if err != nil || len(count) != 2*interruptsPerLoop() {
		t.Errorf("%d of %d ran (%v)", len(count)/2, interruptsPerLoop(), err)
	}
}

func TestInterruptWhileTheShellReadsALargeCommand(t *testing.T) {
	l := newLab(t)
	// What is left of it must not be taken for a part of the next command.
	large := "echo done; : '" + strings.Repeat("\necho rest;", 90_000) + "'"
	for i := range interruptsPerLoop() {
		g := l.start(request(t, "", action.KindRun, action.Run{Command: large}, 0))
		<-time.After(time.Duration(rand.Intn(12_000)) * time.Microsecond) // As above.
		if _, err := l.Interrupt(l.ctx(), g.id, levelInterrupt); err != nil {
			t.Fatal(err)
		}
		s := g.wait()
		if text := strings.TrimSpace(s.run.Content); text != "" && text != "done" {
			t.Fatalf("%d: %.200q", i, text)
		}
		if s := l.sh("echo on " + strconv.Itoa(i)); s.run.Content != "on "+strconv.Itoa(i) || s.obs.GetExitCode() != 0 {
			t.Fatalf("%d: %.200q, exit %v", i, s.run.Content, s.obs.ExitCode)
		}
	}
}
