package engine

import (
	"os"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

func TestRunKeepsTheStateOfTheShell(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		command, content string
		exit             int
	}{
		{"echo hi", "hi", 0},
		{"false", "", 1},
		{"echo $? $_", "1 false", 0},
		{"(exit 7)", "", 7},
		{"echo $?", "7", 0},
		{"cd /tmp && export A='x y' && b=2", "", 0},
		{`echo "$A $b $PWD"`, "x y 2 /tmp", 0},
		{"declare c=3", "", 0},
		{"echo $c", "3", 0},
		{"alias greet='echo hello'", "", 0},
		{"greet you", "hello you", 0},
		{"f() {\n  echo \"f $1\"\n  return 4\n}", "", 0},
		{"f x", "f x", 4},
		{"{ echo one\necho two; }", "one\ntwo", 0},
		{"cat <<'E'\na $b\nE", "a $b", 0},
		{"for i in 1 2 3; do echo $i; done | tac", "3\n2\n1", 0},
		{"-x", "bash: -x: command not found", 127},
		{"# only a comment", "", 0},
		{"tty >/dev/null && echo terminal", "terminal", 0},
	} {
		s := l.sh(c.command)
		if s.run.Content != c.content || s.run.Extras.Metadata.ExitCode != c.exit || s.obs.GetExitCode() != int32(c.exit) {
			t.Errorf("%q: got %q, exit %d", c.command, s.run.Content, s.run.Extras.Metadata.ExitCode)
		}
		if s.obs.Outcome != agentv1.Outcome_OUTCOME_COMPLETED || s.run.Success != (c.exit == 0) {
			t.Errorf("%q: %v", c.command, s.obs)
		}
	}
}

func TestRunTellsMetadata(t *testing.T) {
	l := newLab(t)
	folder := l.cfg.Workspace + "/a\n'b\" \xff"
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	s := l.sh(`cd "$HOME"/a*; sleep 0 & wait`)
	m := s.run.Extras.Metadata
	if m.WorkingDir != strings.ToValidUTF8(folder, "\uFFFD") || m.Pid <= 0 || m.Username == "" || m.Hostname == "" {
		t.Errorf("metadata %+v", m)
	}
	if l.shell.dir != folder {
		t.Errorf("the exact folder is %q, the shell said %q", folder, l.shell.dir)
	}
	if m.Prefix != "" || m.Suffix != "\n[The command completed with exit code 0.]" {
		t.Errorf("prefix %q suffix %q", m.Prefix, m.Suffix)
	}
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/python", []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m = l.sh("PATH=" + bin + ":$PATH").run.Extras.Metadata
	if m.PyInterpreterPath == nil || *m.PyInterpreterPath != bin+"/python" {
		t.Errorf("python is %v", m.PyInterpreterPath)
	}
}

func TestRunTimeoutLeavesTheCommandRunning(t *testing.T) {
	l := newLab(t)
	s := l.runFor("echo begin; read -r line; echo got $line; read -r line; echo end $line; (exit 3)", 300*time.Millisecond)
	m := s.run.Extras.Metadata
	if s.obs.Outcome != agentv1.Outcome_OUTCOME_TIMED_OUT || s.run.Content != "begin" || m.ExitCode != -1 || s.obs.ExitCode != nil ||
		m.Prefix != "" || m.Suffix != suffixHard(300*time.Millisecond) {
		t.Fatalf("%v %+v", s.obs.Outcome, s.run)
	}
	s = l.sh("echo other")
	if m := s.run.Extras.Metadata; s.run.Content != "" || m.Suffix != suffixNotExecuted("echo other") || m.Prefix != prefixPrevious {
		t.Fatalf("not executed: %+v", s.run)
	}
	in := action.Run{Command: "hello", IsInput: true}
	s = l.exec(request(l, "", action.KindRun, in, 300*time.Millisecond))
	if m := s.run.Extras.Metadata; s.obs.Outcome != agentv1.Outcome_OUTCOME_TIMED_OUT || s.run.Content != "got hello" ||
		m.Prefix != prefixPrevious {
		t.Fatalf("first input: %v %+v", s.obs.Outcome, s.run)
	}
	s = l.exec(request(l, "", action.KindRun, action.Run{Command: "you", IsInput: true}, 0))
	if s.run.Content != "end you" || s.run.Extras.Metadata.ExitCode != 3 || s.run.Extras.Metadata.Prefix != "" {
		t.Fatalf("second input: %+v", s.run)
	}
	if s = l.sh("echo free"); s.run.Content != "free" {
		t.Errorf("afterwards: %+v", s.run)
	}
}

func TestRunKeysEndACommand(t *testing.T) {
	for key, want := range map[string]int{"C-c": 130, "C-z": 148, "C-d": 0} {
		t.Run(key, func(t *testing.T) {
			l := newLab(t)
			if s := l.runFor("cat", 200*time.Millisecond); s.obs.Outcome != agentv1.Outcome_OUTCOME_TIMED_OUT {
				t.Fatal(s.obs)
			}
			s := l.exec(request(l, "", action.KindRun, action.Run{Command: key, IsInput: true}, 0))
			if m := s.run.Extras.Metadata; m.ExitCode != want || m.Suffix != suffixCompleted(want, key) {
				t.Errorf("%+v", m)
			}
			if s := l.sh("kill %1 2>/dev/null; echo on"); !strings.Contains(s.run.Content, "on") {
				t.Errorf("afterwards: %+v", s.run)
			}
		})
	}
}

func TestRunWithoutARunningCommand(t *testing.T) {
	l := newLab(t)
	if s := l.sh("  "); s.run.Content != nothingToRead || s.run.Extras.Metadata.ExitCode != -1 {
		t.Errorf("empty: %+v", s.run)
	}
	s := l.exec(request(l, "", action.KindRun, action.Run{Command: "x", IsInput: true}, 0))
	if s.run.Content != nothingToWrite || s.run.Extras.Command != "" {
		t.Errorf("input: %+v", s.run)
	}
}

func TestRunEmptyCommandTellsTheEndThatNobodySaw(t *testing.T) {
	l := newLab(t)
	gate := l.cfg.Workspace + "/gate"
	s := l.runFor("mkfifo "+gate+"; echo a; read <"+gate+"; echo b; (exit 5)", 200*time.Millisecond)
	if s.obs.Outcome != agentv1.Outcome_OUTCOME_TIMED_OUT {
		t.Fatal(s.obs)
	}
	g := l.start(request(t, "", action.KindRun, action.Run{Command: ""}, 0))
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if s := g.wait(); s.run.Content != "b" || s.run.Extras.Metadata.ExitCode != 5 {
		t.Errorf("%+v", s.run)
	}
}

func TestRunNoChangeTimeout(t *testing.T) {
	l := newLab(t, func(c *Config) { c.NoChangeTimeout = time.Second })
	s := l.sh("for i in 1 2 3 4 5; do echo $i; sleep 0.3; done; read x")
	if s.obs.Outcome != agentv1.Outcome_OUTCOME_TIMED_OUT || s.run.Content != "1\n2\n3\n4\n5" ||
		s.run.Extras.Metadata.Suffix != suffixSoft(time.Second) {
		t.Errorf("%v %+v", s.obs.Outcome, s.run)
	}
	l.exec(request(l, "", action.KindRun, action.Run{Command: "C-c", IsInput: true}, 0))
}

func TestRunStaticLeavesTheShellAlone(t *testing.T) {
	l := newLab(t)
	l.sh("a=1")
	s := l.exec(request(l, "", action.KindRun, action.Run{Command: "echo [$a] $PWD; a=2; cd /usr; exit 4", IsStatic: true, Cwd: "/tmp"}, 0))
	if s.run.Content != "[] /tmp" || s.run.Extras.Metadata.ExitCode != 4 {
		t.Errorf("%+v", s.run)
	}
	if s := l.sh("echo $a $PWD"); s.run.Content != "1 "+l.cfg.Workspace {
		t.Errorf("%+v", s.run)
	}
	s = l.exec(request(l, "", action.KindRun, action.Run{Command: "pwd", IsStatic: true, Cwd: "/nowhere"}, 0))
	if s.obs.Outcome != agentv1.Outcome_OUTCOME_FAILED || s.obs.Error.Ran != agentv1.Ran_RAN_NO {
		t.Errorf("%v", s.obs)
	}
}

func TestRunTakesTurns(t *testing.T) {
	l := newLab(t)
	first := l.start(request(t, "", action.KindRun, action.Run{Command: "echo up; read x; echo $x"}, 0)).output()
	var waiting []*going
	for range 5 {
		waiting = append(waiting, l.start(request(t, "", action.KindRun, action.Run{Command: "n=$((n+1)); echo $n"}, 0)))
	}
	if r, err := l.Get(waiting[3].id); err != nil || r.State != agentv1.ActionState_ACTION_STATE_QUEUED {
		t.Errorf("%v %v", r, err)
	}
	waiting[1].interrupt(agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT)
	s := waiting[1].wait()
	if s.obs.Outcome != agentv1.Outcome_OUTCOME_INTERRUPTED || s.obs.Error.GetRan() != agentv1.Ran_RAN_NO {
		t.Errorf("withdrawn: %v", s.obs)
	}
	if n, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: first.id, Data: []byte("go\n")}); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	if s := first.wait(); !strings.HasSuffix(s.run.Content, "go") {
		t.Errorf("%q", s.run.Content)
	}
	for i, want := range map[int]string{0: "1", 2: "2", 3: "3", 4: "4"} {
		if s := waiting[i].wait(); s.run.Content != want {
			t.Errorf("%d: %q", i, s.run.Content)
		}
	}
	if l.Active() != 0 {
		t.Errorf("%d are active", l.Active())
	}
}

func TestRunKeepsTheLastLinesOfManyLikeATerminal(t *testing.T) {
	l := newLab(t)
	s := l.sh(`for i in $(seq 1 50000); do echo "Line $i"; done`)
	m := s.run.Extras.Metadata
	if m.Prefix != "[Previous command outputs are truncated. Showing the last 10988 lines of the output below.]\n" || m.ExitCode != 0 {
		t.Errorf("%+v", m)
	}
	c := s.run.Content
	if len(c) != 30_000+len(truncated) || !strings.HasPrefix(c, "Line 39013\n") || !strings.Contains(c, "\nLine 40000\n") ||
		!strings.HasSuffix(c, "\nLine 50000") {
		t.Errorf("%.20q ... %q", c, c[len(c)-20:])
	}
	s = l.exec(request(t, "", action.KindRun, action.Run{Command: "seq 10988", Hidden: true}, 0))
	if s.run.Extras.Metadata.Prefix != "" || !strings.HasPrefix(s.run.Content, "1\n2\n") || !strings.HasSuffix(s.run.Content, "\n10988") {
		t.Errorf("what fits: %+v", s.run.Extras.Metadata)
	}
	s = l.exec(request(t, "", action.KindRun, action.Run{Command: "seq 10989; printf end", Hidden: true}, 0))
	if !strings.Contains(s.run.Extras.Metadata.Prefix, " 10988 lines") || !strings.HasPrefix(s.run.Content, "3\n4\n") {
		t.Errorf("without a newline: %+v %.9q", s.run.Extras.Metadata, s.run.Content)
	}
	// A line of more than 1000 columns takes several rows.
	s = l.exec(request(t, "", action.KindRun, action.Run{Command: "echo first; head -c 12000000 /dev/zero | tr '\\0' x; echo; echo last", Hidden: true}, 0))
	if !strings.Contains(s.run.Extras.Metadata.Prefix, " 2 lines") || strings.Contains(s.run.Content, "first") {
		t.Errorf("a long line: %+v", s.run.Extras.Metadata)
	}
}
