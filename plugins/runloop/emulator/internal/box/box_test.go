package box_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// patience bounds every wait of the tests; none of them takes it when all is well.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start boots a devbox that ends with the test.
func start(t *testing.T, disk string) *box.Box {
	t.Helper()
	b, err := box.Start(within(t), box.Spec{Disk: disk, User: "user", UID: 1000, Env: []string{"COLOUR=blue"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

func finish(t *testing.T, p *box.Process) *box.Process {
	t.Helper()
	select {
	case <-p.Done():
		return p
	case <-within(t).Done():
		t.Fatalf("not ended; stdout %q, stderr %q", p.Stdout, p.Stderr)
		return nil
	}
}

// run runs a command line to its end.
func run(t *testing.T, b *box.Box, command string) *box.Process {
	t.Helper()
	return runIn(t, b, "", command)
}

func runIn(t *testing.T, b *box.Box, shell, command string) *box.Process {
	t.Helper()
	p, err := b.Start(box.StartOptions{}, b.Shell(shell, command)...)
	if err != nil {
		t.Fatal(err)
	}
	return finish(t, p)
}

func wantOut(t *testing.T, p *box.Process, want string) {
	t.Helper()
	if got := strings.TrimSpace(p.Stdout.String()); got != want {
		t.Errorf("stdout is %q, want %q; stderr %q", got, want, p.Stderr)
	}
}

func TestCommand(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	p := run(t, b, `pwd; echo $HOME $USER $COLOUR; echo oops >&2; exit 42`)
	wantOut(t, p, "/home/user\n/home/user user blue")
	if got := p.Stderr.String(); got != "oops\n" {
		t.Errorf("stderr is %q", got)
	}
	if p.Exit() != 42 {
		t.Errorf("exit status %d", p.Exit())
	}
	wantOut(t, run(t, b, `echo {1..3} > f && cat ~/f`), "1 2 3")
	if box.Privileged() {
		wantOut(t, run(t, b, `id -un; id -u; getent passwd user`), "user\n1000\nuser:x:1000:1000:devbox user:/home/user:/bin/bash")
	}
}

func TestDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	first := start(t, disk)
	run(t, first, `echo kept > ~/kept; echo tmp > /tmp/kept; echo work > /workspace/kept; sleep 1000 &`)
	first.Stop()
	second := start(t, disk)
	wantOut(t, run(t, second, `cat ~/kept /tmp/kept /workspace/kept; pgrep sleep`), "kept\ntmp\nwork")
	other := start(t, filepath.Join(t.TempDir(), "disk"))
	wantOut(t, run(t, other, `ls ~ /tmp /workspace | grep kept; echo none`), "none")
	if _, err := os.Stat("/tmp/kept"); err == nil {
		t.Error("the machine's own /tmp was written to")
	}
}

func TestBackground(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	// A background process keeps the pipe open and does not keep the command from ending; it lives on.
	p := run(t, b, `(while :; do echo noise; sleep 0.02; done) & echo $! > pid; seq 5`)
	if out := strings.ReplaceAll(p.Stdout.String(), "noise\n", ""); out != "1\n2\n3\n4\n5\n" {
		t.Errorf("stdout is %q", out)
	}
	wantOut(t, run(t, b, `kill -0 $(cat pid) && echo alive`), "alive")
}

func TestLongOutput(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	p := run(t, b, `seq 100000`)
	if got := strings.Count(p.Stdout.String(), "\n"); got != 100000 {
		t.Errorf("%d lines", got)
	}
	if last, truncated := p.Stdout.Last(2); last != "99999\n100000\n" || !truncated {
		t.Errorf("the last two lines are %q, truncated %v", last, truncated)
	}
}

func TestNamedShell(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	runIn(t, b, "main shell/1", `cd /tmp; export A='x y'; B=$'two\nlines'; f() { echo in f; }; alias hi='echo hi'; set -u; false`)
	wantOut(t, runIn(t, b, "main shell/1", `pwd; echo "$A"; echo "$B"; f; hi`), "/tmp\nx y\ntwo\nlines\nin f\nhi")
	if p := runIn(t, b, "main shell/1", `cd /; exit 7`); p.Exit() != 7 {
		t.Errorf("exit status %d", p.Exit())
	}
	wantOut(t, runIn(t, b, "main shell/1", `pwd`), "/")
	wantOut(t, runIn(t, b, "other", `pwd; echo "${A-unset}"`), "/home/user\nunset")
}

func TestInput(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	p, err := b.Start(box.StartOptions{Stdin: true}, b.Shell("", `read a; echo "got $a"; cat`)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Input("hello\n"); err != nil {
		t.Fatal(err)
	}
	chunk, more, err := p.Stdout.Next(within(t), 0)
	if string(chunk) != "got hello\n" || !more || err != nil {
		t.Errorf("read %q, more %v, error %v", chunk, more, err)
	}
	if err := p.Input("rest"); err != nil {
		t.Fatal(err)
	}
	p.CloseInput()
	wantOut(t, finish(t, p), "got hello\nrest")
	if err := p.Input("late"); err == nil {
		t.Error("a command that has ended took input")
	}
}

func TestSignal(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	for name, group := range map[string]bool{"alone": false, "group": true} {
		t.Run(name, func(t *testing.T) {
			p, err := b.Start(box.StartOptions{}, b.Shell("", `sleep 987 & echo started; wait`)...)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := p.Stdout.Next(within(t), 0); err != nil {
				t.Fatal(err)
			}
			p.Signal(syscall.SIGKILL, group)
			if finish(t, p).Exit() != 137 {
				t.Errorf("exit status %d", p.Exit())
			}
			left := strings.Count(run(t, b, `pgrep -fx 'sleep 987' || true`).Stdout.String(), "\n")
			if want := map[bool]int{false: 1, true: 0}[group]; left != want {
				t.Errorf("%d sleepers left, want %d", left, want)
			}
			run(t, b, `pkill -fx 'sleep 987'`)
		})
	}
}

func TestPort(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	p, err := b.Start(box.StartOptions{}, b.Shell("", `python3 -u -m http.server 8123`)...)
	if err != nil {
		t.Skip(err)
	}
	if _, _, err := p.Stdout.Next(within(t), 0); err != nil {
		t.Fatal(err)
	}
	conn, err := b.Dial(within(t), 8123)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "200 OK") {
		t.Errorf("answer %q", answer)
	}
	if _, err := b.Dial(within(t), 8124); err == nil {
		t.Error("a port that nobody listens on accepted")
	}
}

func TestStopEndsEverything(t *testing.T) {
	b := start(t, filepath.Join(t.TempDir(), "disk"))
	p, err := b.Start(box.StartOptions{}, b.Shell("", `setsid sleep 986 & echo started; wait`)...)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Stdout.Next(within(t), 0); err != nil {
		t.Fatal(err)
	}
	b.Stop()
	finish(t, p)
	<-b.Done()
	if raw, _ := filepath.Glob("/proc/[0-9]*/cmdline"); len(raw) > 0 {
		for _, file := range raw {
			if line, _ := os.ReadFile(file); string(line) == "sleep\x00986\x00" {
				t.Errorf("%s is left", file)
			}
		}
	}
}
