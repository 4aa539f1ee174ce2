package engine

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	levelInterrupt = agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT
	levelTerminate = agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE
	levelKill      = agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL
)

func script(text string) action.Process { return action.Process{Argv: []string{"sh", "-c", text}} }

func (l *lab) process(p action.Process, timeout time.Duration) *seen {
	l.Helper()
	return l.exec(request(l, "", action.KindProcess, p, timeout))
}

func TestProcessChannelsAndExit(t *testing.T) {
	l := newLab(t)
	p := script(`printf 'o\0\377'; printf 'e\r\n' >&2; pwd >&2; echo $A; read x || echo eof; exit 3`)
	p.Env, p.Cwd = map[string]string{"A": "b c"}, "sub"
	if err := os.Mkdir(l.cfg.Workspace+"/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	s := l.process(p, 0)
	if s.stdout() != "o\x00\xffb c\neof\n" || s.stderr() != "e\r\n"+l.cfg.Workspace+"/sub\n" {
		t.Errorf("%q %q", s.stdout(), s.stderr())
	}
	if s.obs.GetExitCode() != 3 || *s.process.ExitCode != 3 || s.obs.Outcome != agentv1.Outcome_OUTCOME_COMPLETED || s.process.Pid <= 0 {
		t.Errorf("%v %+v", s.obs, s.process)
	}
	s = l.process(script("kill -9 $$"), 0)
	if s.obs.ExitCode != nil || s.process.ExitCode != nil || s.process.Signal != "SIGKILL" || s.obs.Outcome != agentv1.Outcome_OUTCOME_COMPLETED {
		t.Errorf("%v %+v", s.obs, s.process)
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	l := newLab(t)
	plain := filepath.Join(l.cfg.Workspace, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p      action.Process
		reason agentv1.Reason
		field  string
	}{
		"no program": {action.Process{Argv: []string{"no-such"}}, agentv1.Reason_REASON_NOT_FOUND, "action.payload.argv"},
		"no path":    {action.Process{Argv: []string{"./no-such"}}, agentv1.Reason_REASON_NOT_FOUND, "action.payload.argv"},
		"a folder":   {action.Process{Argv: []string{"/tmp"}}, agentv1.Reason_REASON_PERMISSION_DENIED, "action.payload.argv"},
		"no cwd":     {action.Process{Argv: []string{"true"}, Cwd: "nowhere"}, agentv1.Reason_REASON_NOT_FOUND, "action.payload.cwd"},
		"no format":  {action.Process{Argv: []string{plain}}, agentv1.Reason_REASON_PERMISSION_DENIED, ""},
	} {
		s := l.process(c.p, 0)
		e := s.obs.GetError()
		if s.obs.Outcome != agentv1.Outcome_OUTCOME_FAILED || e.GetReason() != c.reason || e.GetField() != c.field || e.GetRan() != agentv1.Ran_RAN_NO {
			t.Errorf("%s: %v", name, s.obs)
		}
	}
	for field, payload := range map[string]any{"action.payload.argv": action.Process{}, "action.payload": map[string]int{"argv": 1}} {
		req := request(t, "bad-1", action.KindProcess, payload, 0)
		e := rterr.From(l.Execute(l.ctx(), req, discard))
		if e == nil || e.Reason != rterr.InvalidArgument || e.Field != field || e.Ran != rterr.RanNo {
			t.Errorf("%s: %+v", field, e)
		}
	}
	if err := l.Execute(l.ctx(), request(t, "bad-1", "dance", struct{}{}, 0), discard); !rterr.Is(err, rterr.UnknownKind) {
		t.Error(err)
	}
	if _, err := l.Get("bad-1"); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("something refused was recorded: %v", err)
	}
}

func TestProcessTimeoutKeepsTheOutput(t *testing.T) {
	l := newLab(t)
	s := l.process(script(`trap '' TERM; echo part; (trap '' TERM; sleep 100) & sleep 100; sleep 100`), 200*time.Millisecond)
	if s.obs.Outcome != agentv1.Outcome_OUTCOME_TIMED_OUT || s.stdout() != "part\n" || !s.process.TimedOut || s.process.Signal != "SIGKILL" {
		t.Errorf("%v %q %+v", s.obs.Outcome, s.stdout(), s.process)
	}
}

func TestProcessInterrupts(t *testing.T) {
	l := newLab(t)
	for level, c := range map[agentv1.InterruptLevel]struct {
		script  string
		outcome agentv1.Outcome
		signal  string
	}{
		levelInterrupt: {"echo up; exec sleep 100", agentv1.Outcome_OUTCOME_INTERRUPTED, "SIGINT"},
		levelTerminate: {"trap 'exit 0' TERM; echo up; sleep 100 & wait", agentv1.Outcome_OUTCOME_COMPLETED, ""},
		levelKill:      {"trap '' INT TERM; echo up; sleep 100; sleep 100", agentv1.Outcome_OUTCOME_INTERRUPTED, "SIGKILL"},
	} {
		g := l.start(request(t, "", action.KindProcess, script(c.script), 0)).output()
		g.interrupt(level)
		if s := g.wait(); s.obs.Outcome != c.outcome || s.process.Signal != c.signal {
			t.Errorf("%v: %v %+v", level, s.obs.Outcome, s.process)
		}
		if ok, err := l.Interrupt(l.ctx(), g.id, level); ok || err != nil {
			t.Errorf("a done action was signalled: %v %v", ok, err)
		}
	}
	if _, err := l.Interrupt(l.ctx(), "unknown", levelKill); !rterr.Is(err, rterr.NotFound) || rterr.From(err).Ran != rterr.RanNo {
		t.Error(err)
	}
}

func TestProcessInput(t *testing.T) {
	l := newLab(t)
	data := make([]byte, 5<<20)
	rand.New(rand.NewSource(1)).Read(data)
	g := l.start(request(t, "", action.KindProcess, action.Process{Argv: []string{"sha256sum"}, Stdin: true}, 0))
	write := func(off, n int, end bool) uint64 {
		t.Helper()
		next, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Offset: uint64(off), Data: data[off : off+n], Close: end})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	for off := 0; off < len(data); off += 1 << 20 {
		write(off, 1<<20, false)
		if next := write(off, 1<<20, false); next != uint64(off+1<<20) { // A retry.
			t.Errorf("next is %d", next)
		}
	}
	_, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Offset: uint64(len(data) + 1)})
	if e := rterr.From(err); e == nil || e.Reason != rterr.InvalidArgument || e.Field != "offset" {
		t.Error(err)
	}
	write(len(data), 0, true)
	if s := g.wait(); !strings.HasPrefix(s.stdout(), fmt.Sprintf("%x", sha256.Sum256(data))) {
		t.Errorf("%q", s.stdout())
	}
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id}); !rterr.Is(err, rterr.IllegalState) {
		t.Error(err)
	}
}

func TestProcessInputThatNobodyReads(t *testing.T) {
	l := newLab(t)
	g := l.start(request(t, "", action.KindProcess, action.Process{Argv: []string{"sh", "-c", "echo up; sleep 100"}, Stdin: true}, 0)).output()
	failed := make(chan error, 1)
	go func() {
		var off uint64
		for {
			next, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Offset: off, Data: make([]byte, 1<<20)})
			if err != nil {
				failed <- err
				return
			}
			off = next
		}
	}()
	g.interrupt(levelKill)
	g.wait()
	if err := <-failed; !rterr.Is(err, rterr.IllegalState) {
		t.Error(err)
	}
}

func TestProcessOnATerminal(t *testing.T) {
	l := newLab(t)
	p := script(`trap 'stty size' WINCH; stty size; tty >/dev/null && echo $TERM; while read x; do echo got $x; done; echo end`)
	p.TTY = &action.TTY{Rows: 10, Cols: 20, Term: "vt100"}
	g := l.start(request(t, "", action.KindProcess, p, 0)).output()
	if err := l.Resize(&agentv1.ResizeRequest{ActionId: g.id, Rows: 11, Cols: 21, Sequence: 2}); err != nil {
		t.Fatal(err)
	}
	if err := l.Resize(&agentv1.ResizeRequest{ActionId: g.id, Rows: 1, Cols: 1, Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Data: []byte("a\n"), Close: true}); err != nil {
		t.Fatal(err)
	}
	out := g.wait().pty()
	if !strings.HasPrefix(out, "10 20\r\n") || !strings.Contains(out, "vt100\r\n") || !strings.HasSuffix(out, "end\r\n") || strings.Contains(out, "1 1\r") {
		t.Errorf("%q", out)
	}
}

func TestProcessWhoseChildKeepsThePipe(t *testing.T) {
	l := newLab(t)
	s := l.process(script(`(trap '' HUP; while echo noise; do sleep 0.02; done) & echo $!`), 0)
	if s.obs.Outcome != agentv1.Outcome_OUTCOME_COMPLETED || !strings.Contains(s.stdout(), "noise") {
		t.Errorf("%v %q", s.obs, s.stdout())
	}
	var pid int
	for line := range strings.Lines(s.stdout()) {
		if _, err := fmt.Sscan(line, &pid); err == nil {
			break
		}
	}
	// It has not got a broken pipe, and is ended by the test.
	if s := l.process(script(fmt.Sprintf("kill -0 %d && kill -9 %d", pid, pid)), 0); s.obs.GetExitCode() != 0 {
		t.Errorf("the detached process has ended: %q", s.stderr())
	}
}

func TestProcessManyReadersAtTheirOwnPace(t *testing.T) {
	l := newLab(t)
	const size = 20 << 20
	g := l.start(request(t, "", action.KindProcess, script(fmt.Sprintf("yes 0123456789abcde | head -c %d", size)), 0))
	want := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			from, got := i*1_000_003, bytes.Buffer{}
			req := &agentv1.AttachRequest{ActionId: g.id,
				From: []*agentv1.OutputCursor{{Channel: agentv1.Channel_CHANNEL_STDOUT, Offset: uint64(from)}}}
			err := l.Attach(l.ctx(), req, func(e *agentv1.ActionEvent) error { got.Write(e.GetOutput().GetData()); return nil })
			if err != nil || !bytes.Equal(got.Bytes(), want[from:]) {
				t.Errorf("from %d: %d bytes, %v", from, got.Len(), err)
			}
		})
	}
	if s := g.wait(); !bytes.Equal(s.out[agentv1.Channel_CHANNEL_STDOUT], want) {
		t.Error("the first reader got something else")
	}
	all.Wait()
}

func TestReadersThatFailHurtNobody(t *testing.T) {
	l := newLab(t)
	req := request(t, "x-1", action.KindProcess, script("echo a; echo b"), 0)
	if err := l.Execute(l.ctx(), req, func(*agentv1.ActionEvent) error { return io.ErrClosedPipe }); err != io.ErrClosedPipe {
		t.Error(err)
	}
	s := &seen{}
	if err := l.Attach(l.ctx(), &agentv1.AttachRequest{ActionId: "x-1"}, s.take); err != nil {
		t.Fatal(err)
	}
	if s.finish(t); s.stdout() != "a\nb\n" {
		t.Errorf("%q", s.stdout())
	}
	none := &seen{}
	if err := l.Attach(l.ctx(), &agentv1.AttachRequest{ActionId: "x-1", Output: agentv1.OutputMode_OUTPUT_MODE_NONE}, none.take); err != nil ||
		len(none.out) != 0 || none.obs == nil {
		t.Error(err, none)
	}
}

func TestOldOutputBecomesAGap(t *testing.T) {
	l := newLab(t, func(c *Config) { c.SpoolDisk = 2 << 20 })
	s := l.process(action.Process{Argv: []string{"head", "-c", "10M", "/dev/zero"}}, 0)
	again := &seen{}
	if err := l.Attach(l.ctx(), &agentv1.AttachRequest{ActionId: s.obs.ActionId}, again.take); err != nil {
		t.Fatal(err)
	}
	again.finish(t)
	end := s.obs.Channels[0]
	if gap := again.gaps[agentv1.Channel_CHANNEL_STDOUT]; gap == 0 || gap != end.RetainedFrom || end.Length != 10<<20 || end.Length-gap > 2<<20 {
		t.Errorf("gap %d, %v", gap, end)
	}
}

func TestAnActionRunsOnce(t *testing.T) {
	l := newLab(t)
	for kind, payload := range map[string]any{
		action.KindRun:     action.Run{Command: "echo x >>count; echo done"},
		action.KindProcess: script("echo x >>count; echo done"),
	} {
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				s := &seen{}
				if err := l.Execute(l.ctx(), request(t, "once-"+kind, kind, payload, 0), s.take); err != nil {
					t.Error(err)
					return
				}
				if s.finish(t); s.stdout()+s.pty() != "done\n" {
					t.Errorf("%q", s.stdout()+s.pty())
				}
			})
		}
		all.Wait()
		count, err := os.ReadFile(l.cfg.Workspace + "/count")
		if err != nil || string(count) != "x\n" {
			t.Errorf("%s: it ran %d times (%v)", kind, len(count)/2, err)
		}
		_ = os.Remove(l.cfg.Workspace + "/count")
		other := request(t, "once-"+kind, kind, payload, time.Hour)
		if err := l.Execute(l.ctx(), other, discard); !rterr.Is(err, rterr.ActionConflict) {
			t.Errorf("another action under the same id: %v", err)
		}
	}
	if n := len(l.List(false, 0)); n != 2 {
		t.Errorf("%d records", n)
	}
}

func TestRunInterrupts(t *testing.T) {
	l := newLab(t)
	for name, c := range map[string]struct {
		command string
		level   agentv1.InterruptLevel
		exit    int
		keeps   bool
	}{
		"a command":               {"echo up; sleep 100; echo no", levelInterrupt, 130, true},
		"a loop":                  {"echo up; while :; do :; done", levelInterrupt, 130, true},
		"without ISIG":            {"stty -isig; echo up; sleep 100", levelInterrupt, 130, true},
		"terminate":               {"echo up; sleep 100", levelTerminate, 143, true},
		"kill":                    {"echo up; (trap '' INT TERM; sleep 100; sleep 100)", levelKill, 137, true},
		"kill a loop":             {"echo up; while :; do sleep 0.1; done", levelKill, 137, true},
		"kill the rest of a list": {"echo up; sleep 100; echo no; sleep 100", levelKill, 137, true},
		"terminate a loop":        {"echo up; while :; do sleep 0.1; done", levelTerminate, 143, true},
		"terminate a busy shell":  {"echo up; while :; do :; done", levelTerminate, 143, true},
		"terminate a list":        {"echo up; sleep 100; echo no; sleep 100", levelTerminate, 143, true},
		"kill a stubborn shell":   {"trap '' INT; echo up; while :; do :; done", levelKill, 137, false},
		"kill what is detached":   {"setsid -w sleep 100 & echo up; wait $!", levelKill, 137, true},
	} {
		t.Run(name, func(t *testing.T) {
			l.TB = t
			l.sh("kept=yes; stty sane -onlcr")
			g := l.start(request(t, "", action.KindRun, action.Run{Command: c.command}, 0)).output()
			g.interrupt(c.level)
			s := g.wait()
			if s.obs.Outcome != agentv1.Outcome_OUTCOME_INTERRUPTED || s.run.Extras.Metadata.ExitCode != c.exit ||
				strings.Contains(s.run.Content, "no") {
				t.Errorf("%v, exit %d: %q", s.obs.Outcome, s.run.Extras.Metadata.ExitCode, s.run.Content)
			}
			if s := l.sh("echo $kept"); (s.run.Content == "yes") != c.keeps {
				t.Errorf("the shell kept %q", s.run.Content)
			}
		})
	}
	l.TB = t
}

func TestLargeCommandAndOutput(t *testing.T) {
	l := newLab(t)
	command := "cat >/dev/null <<'E'; echo end\n" + strings.Repeat("0123456789abcde\n", 65000) + "E"
	if s := l.sh(command); s.run.Content != "end" {
		t.Errorf("%q", s.run.Content)
	}
	s := l.sh("head -c 30000000 /dev/zero")
	if s.obs.Channels[0].Length != 30_000_000 || len(s.run.Content) != 30000+len(truncated) {
		t.Errorf("%v, content of %d", s.obs.Channels, len(s.run.Content))
	}
	hidden := l.exec(request(t, "", action.KindRun, action.Run{Command: "head -c 100000 /dev/zero", Hidden: true}, 0))
	if len(hidden.run.Content) != 100000 || !hidden.run.Extras.Hidden {
		t.Errorf("hidden content of %d", len(hidden.run.Content))
	}
}
