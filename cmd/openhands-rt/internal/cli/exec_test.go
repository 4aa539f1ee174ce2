package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/hosttest"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

func TestExecKeepsStreamsApartAndTheExitCode(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "demo")
	for _, ref := range []string{"r-1", "demo"} {
		run(t, h, "exec", "--runtime", ref, "--", "sh", "-c", "echo out; echo err >&2; exit 3").want(t, 3, "out\n", "err\n")
	}
}

func TestExecBytesAreExact(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	in := []byte("a\x00b\xff\xfe\r\n\xc3")
	newCommand(t, h, "exec", "-r", "r-1", "--", "cat").input(in).run().want(t, 0, string(in), "")
}

func TestExecExitCodes(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	for script, code := range map[string]int{"exit 0": 0, "exit 255": 255, "kill -9 $$": 137, "kill -TERM $$": 143} {
		if r := run(t, h, "exec", "-r", "r-1", "--", "sh", "-c", script); r.code != code {
			t.Errorf("%s: exit code %d, want %d (%s)", script, r.code, code, r.err)
		}
	}
	if r := run(t, h, "exec", "-r", "r-1", "--", "no-such-program"); r.code != 127 || !strings.Contains(r.err, "no-such-program") {
		t.Errorf("no such program: %+v", r)
	}
	if r := run(t, h, "exec", "-r", "nobody", "--", "true"); r.code != 125 || !strings.Contains(r.err, "openhands-rt runtimes ls") {
		t.Errorf("no such runtime: %+v", r)
	}
	if r := run(t, h, "exec", "--", "true"); r.code != 2 || !strings.Contains(r.err, "--new") {
		t.Errorf("no runtime named: %+v", r)
	}
}

func TestExecFlagsReachTheProgram(t *testing.T) {
	h := hosttest.New(t)
	dir := h.Add("r-1", "")
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := newCommand(t, h, "exec", "-e", "A=1 2", "-e", "FROM_HERE", "-e", "NOT_SET", "-w", "sub", "--", "sh", "-c", `echo "$A,$FROM_HERE,${NOT_SET-unset}"; basename "$PWD"`)
	c.env["FROM_HERE"], c.env["OPENHANDS_RT_RUNTIME"] = "here", "r-1"
	c.run().want(t, 0, "1 2,here,unset\nsub\n", "")
}

func TestExecSameIDRunsOnce(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	for range 2 {
		run(t, h, "exec", "-r", "r-1", "--id", "once", "--", "sh", "-c", "echo x >> log; cat log").want(t, 0, "x\n", "")
	}
	run(t, h, "actions", "attach", "once").want(t, 0, "x\n", "")
	if h.Started() != 1 {
		t.Errorf("%d processes were started, want 1", h.Started())
	}
}

func TestExecNewEndsWithTheCommand(t *testing.T) {
	h := hosttest.New(t)
	run(t, h, "exec", "--new", "--", "sh", "-c", "exit 4").want(t, 4, "", "")
	if got := h.Stopped(); len(got) != 1 {
		t.Errorf("stopped %v, want the new one", got)
	}
	r := run(t, h, "exec", "--new", "--keep", "--", "true")
	if r.code != 0 || !strings.Contains(r.err, "openhands-rt runtimes stop r-new-2") || len(h.Stopped()) != 1 {
		t.Errorf("--keep: %+v, stopped %v", r, h.Stopped())
	}
}

func TestExecNewEndsOnSignals(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGHUP: 129} {
		t.Run(sig.String(), func(t *testing.T) {
			h := hosttest.New(t)
			c := newCommand(t, h, "exec", "--new", "--", "sh", "-c", "echo up; exec sleep 1000")
			done := c.start()
			c.out.wait(t.Context(), "up")
			c.signal(sig)
			if r := <-done; r.code != code || len(h.Stopped()) != 1 {
				t.Errorf("%+v, stopped %v", r, h.Stopped())
			}
		})
	}
}

func TestCtrlCDuringCreationLeavesNothing(t *testing.T) {
	h := hosttest.New(t)
	c := newCommand(t, h, "exec", "--new", "--backend", hosttest.BackendStuck, "--", "true")
	done := c.start()
	if !h.WaitRuntime(t.Context(), "r-new-1") {
		t.Fatal("no runtime was made")
	}
	c.signal(syscall.SIGINT)
	if r := <-done; r.code != 130 || len(h.Stopped()) != 1 {
		t.Errorf("%+v, stopped %v", r, h.Stopped())
	}
}

func TestCtrlCLevels(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	c := newCommand(t, h, "exec", "-r", "r-1", "--id", "a-1", "--", "sh", "-c", `trap "" INT TERM; echo up; while :; do sleep 1000; done`)
	at := time.Unix(1000, 0)
	c.now = func() time.Time { return at }
	done := c.start()
	c.out.wait(t.Context(), "up")
	for i := range 3 {
		c.signal(syscall.SIGINT)
		h.Levels(t.Context(), "a-1", i+1)
	}
	r := <-done
	want := []agentv1.InterruptLevel{1, 2, 3}
	if got := h.Levels(t.Context(), "a-1", 3); r.code != 137 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("exit code %d, levels %v, want 137, %v (%s)", r.code, got, want, r.err)
	}
}

func TestCtrlCInterruptsTheActionOnly(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	c := newCommand(t, h, "exec", "-r", "r-1", "--", "sh", "-c", `trap "echo caught; exit 7" INT; echo up; while :; do sleep 0.01; done`)
	done := c.start()
	c.out.wait(t.Context(), "up")
	c.signal(syscall.SIGINT)
	(<-done).want(t, 7, "up\ncaught\n", "")
}

func TestCtrlCOfAttachLeavesTheActionRunning(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	if r := run(t, h, "exec", "-r", "r-1", "--id", "a-1", "-d", "--", "sh", "-c", "echo up; exec sleep 1000"); r.out != "a-1\n" {
		t.Fatalf("%+v", r)
	}
	c := newCommand(t, h, "actions", "attach", "a-1")
	done := c.start()
	c.out.wait(t.Context(), "up")
	c.signal(syscall.SIGINT)
	if r := <-done; r.code != 130 || !strings.Contains(r.err, "openhands-rt actions attach a-1") {
		t.Errorf("%+v", r)
	}
	if got := h.Levels(t.Context(), "a-1", 0); len(got) != 0 {
		t.Errorf("it was interrupted: %v", got)
	}
	run(t, h, "actions", "interrupt", "--level", "kill", "a-1").want(t, 0, "a-1\n", "")
	run(t, h, "actions", "attach", "a-1", "--from", "stdout=1").want(t, 137, "p\n", "")
}

// random is n bytes that do not compress, and their hash.
func random(n int) ([]byte, string) {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	sum := sha256.Sum256(b)
	return b, hex.EncodeToString(sum[:])
}

func TestExecLargeInputIsExact(t *testing.T) {
	size := 100 << 20
	if testing.Short() {
		size = 8 << 20
	}
	h := hosttest.New(t)
	h.Add("r-1", "")
	in, sum := random(size)
	newCommand(t, h, "exec", "-r", "r-1", "--", "sha256sum").input(in).run().want(t, 0, sum+"  -\n", "")
}

func TestExecInputSurvivesCutsAndSmallBites(t *testing.T) {
	h := hosttest.New(t)
	h.Nibble = true
	h.Add("r-1", "")
	in, sum := random(6 << 20)
	pieces := rand.New(rand.NewPCG(1, 2))
	h.CutReads(func() int64 { return 900<<10 + pieces.Int64N(900<<10) })
	r := newCommand(t, h, "exec", "-r", "r-1", "--", "sha256sum").input(in).run()
	if r.code != 0 || r.out != sum+"  -\n" {
		t.Errorf("%+v", r)
	}
	if h.Cuts() == 0 {
		t.Error("nothing was cut")
	}
}

func TestExecEndsThoughItsInputDoesNot(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := newCommand(t, h, "exec", "-r", "r-1", "--", "sh", "-c", "exit 5")
	c.in = r
	c.run().want(t, 5, "", "")

	in, _ := random(4 << 20) // more than pipe and read-ahead hold
	newCommand(t, h, "exec", "-r", "r-1", "--", "sh", "-c", "head -c 3; exit 6").input(in).run().want(t, 6, string(in[:3]), "")
}

func TestExecReattachesWithoutLossOrRepeat(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	var want bytes.Buffer
	for i := range 100000 {
		fmt.Fprintf(&want, "%d\n", i+1)
	}
	sizes := rand.New(rand.NewPCG(3, 4))
	h.CutWrites(func() int64 { return 40<<10 + sizes.Int64N(200<<10) })
	r := run(t, h, "exec", "-r", "r-1", "--", "sh", "-c", "seq 1 100000; seq 1 100000 >&2; exit 9")
	if r.code != 9 || r.out != want.String() {
		t.Errorf("exit code %d, %d bytes of stdout, want 9, %d", r.code, len(r.out), want.Len())
	}
	note, rest, _ := strings.Cut(r.err, "re-attach for 30s\n")
	if strings.Contains(rest, "openhands-rt:") {
		t.Error("said more than once that the connection was lost")
	}
	// The note comes between two pieces of stderr: what is left without it must be whole.
	before := note[:strings.LastIndex(note, "openhands-rt:")]
	if before+rest != want.String() {
		t.Errorf("%d bytes of stderr, want %d", len(before+rest), want.Len())
	}
	if h.Cuts() < 3 || h.Started() != 1 {
		t.Errorf("%d cuts, %d processes", h.Cuts(), h.Started())
	}
}

func TestExecFindsARestartedDaemon(t *testing.T) {
	h := hosttest.New(t)
	dir := h.Add("r-1", "")
	c := newCommand(t, h, "exec", "-r", "r-1", "--", "sh", "-c", "echo one; while [ ! -e go ]; do sleep 0.01; done; echo two")
	done := c.start()
	c.out.wait(t.Context(), "one")
	h.Stop()
	c.err.wait(t.Context(), "lost")
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Start() // at another port
	if r := <-done; r.code != 0 || r.out != "one\ntwo\n" {
		t.Errorf("%+v", r)
	}
}

func TestExecGivesUpWithTheWayBack(t *testing.T) {
	h := hosttest.New(t)
	c := newCommand(t, h, "exec", "--new", "--id", "a-1", "--reconnect", "50ms", "--", "sh", "-c", "echo one; exec sleep 1000")
	done := c.start()
	c.out.wait(t.Context(), "one")
	h.Stop()
	r := <-done
	if r.code != 125 || !strings.Contains(r.err, "openhands-rt actions attach a-1") || !strings.Contains(r.err, "runtime r-new-1 stays") {
		t.Errorf("%+v", r)
	}
}

func TestExecEndsTheActionWhenNobodyReads(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	defer w.Close()
	c := newCommand(t, h, "exec", "-r", "r-1", "--id", "a-1", "--", "yes")
	code := Main(t.Context(), Env{Args: c.args, In: c.in, Out: w, Err: c.err, Signals: c.signals, Now: c.now,
		Getenv: func(k string) string { return c.env[k] }})
	if code != 141 {
		t.Errorf("exit code %d, want 141 (%s)", code, c.err.String())
	}
	if got := h.Levels(t.Context(), "a-1", 1); got[0] != agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE {
		t.Errorf("levels %v", got)
	}
}

func TestExecJSONIsEvents(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	r := run(t, h, "exec", "-o", "json", "-r", "r-1", "--id", "a-1", "--", "sh", "-c", "printf hi")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.code != 0 || len(lines) != 2 || !strings.Contains(lines[0], `"data":"aGk="`) || !strings.Contains(lines[1], `"exitCode":0`) {
		t.Errorf("%+v", r)
	}
}

func TestRunUsesTheShell(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	run(t, h, "run", "-r", "r-1", "echo a b; exit 3").want(t, 3, "a b\r\n", "")
}
