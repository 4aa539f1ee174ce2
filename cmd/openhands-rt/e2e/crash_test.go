package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// counter prints its pid and then 300 lines.
const counter = `echo pid $$; i=1; while [ $i -le 300 ]; do echo line $i; i=$((i+1)); sleep 0.1; done`

// lines follows the output of a command, line by line.
type lines struct {
	t  *testing.T
	ch chan string
}

func follow(t *testing.T, r io.Reader) *lines {
	l := &lines{t: t, ch: make(chan string, 1000)}
	go func() {
		defer close(l.ch)
		s := bufio.NewScanner(r)
		for s.Scan() {
			l.ch <- s.Text()
		}
	}()
	return l
}

// until reads to a line and returns all lines up to it.
func (l *lines) until(want string) []string {
	l.t.Helper()
	var out []string
	timeout := time.After(limit)
	for {
		select {
		case line, ok := <-l.ch:
			if !ok {
				l.t.Fatalf("the output ended before %q, after %q", want, out)
			}
			out = append(out, line)
			if line == want {
				return out
			}
		case <-timeout:
			l.t.Fatalf("no %q after %q", want, out)
		}
	}
}

func wantCounter(t *testing.T, text string) (pid string) {
	t.Helper()
	got := strings.Split(strings.TrimSpace(text), "\n")
	if len(got) != 301 {
		t.Fatalf("%d lines, want 301:\n%s", len(got), text)
	}
	for i := 1; i <= 300; i++ {
		if got[i] != "line "+strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, got[i])
		}
	}
	return strings.TrimPrefix(got[0], "pid ")
}

func TestPluginAndHostDieAndNothingIsLost(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client := d.command(ctx, "exec", "--runtime", id, "--id", "counter", "--reconnect", "0s", "--", "sh", "-c", counter)
	stdout, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	out := follow(t, stdout)
	before := out.until("line 50")
	plugin := d.pluginPID()
	if err := syscall.Kill(plugin, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	before = append(before, out.until("line 100")...) // the client does not notice
	for i := 1; i <= 100; i++ {
		if before[i] != "line "+strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, before[i])
		}
	}
	d.kill()
	_ = client.Wait()
	d.start()
	attached := d.cli("actions", "attach", "counter")
	pid := wantCounter(t, attached.stdout)
	if attached.code != 0 {
		t.Errorf("exit code %d: %s", attached.code, attached.stderr)
	}
	if first := strings.TrimPrefix(before[0], "pid "); first != pid {
		t.Errorf("pid %s at first, %s afterwards: it ran again", first, pid)
	}
	again := d.cli("actions", "attach", "counter")
	if wantCounter(t, again.stdout) != pid {
		t.Error("another run's output")
	}
	if d.pluginPID() == plugin {
		t.Error("the plugin's pid is that of the killed one")
	}
	if n := strings.Count(d.must("actions", "ls", "--runtime", id), "counter "); n != 1 {
		t.Errorf("%d records of the action", n)
	}
}

func TestExecGoesOnOverARestartOfTheHost(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client := d.command(ctx, "exec", "--runtime", id, "--", "sh", "-c", counter)
	stdout, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	out := follow(t, stdout)
	text := out.until("line 30")
	d.kill()
	d.start()
	text = append(text, out.until("line 300")...)
	wantCounter(t, strings.Join(text, "\n"))
	if err := client.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftOfARuntime(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start")
	d.must("run", "--runtime", id, "sleep 1000 & disown; setsid sleep 1000 &")
	d.must("exec", "--runtime", id, "--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo")
	if n := sleepers(d); n < 3 {
		t.Fatalf("%d processes are there before the stop, want 3", n)
	}
	d.must("runtimes", "stop", id)
	if n := sleepers(d); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func sleepers(d *daemon) int {
	n := 0
	for _, p := range processesOf(d.dir) {
		if strings.Contains(p, "sleep 1000") {
			n++
		}
	}
	return n
}

func TestWhatTheHostLeavesForGoodEndsWithItsLease(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "lease: 5s\n")
	d.start()
	id := d.must("runtimes", "start")
	d.must("run", "--runtime", id, "sleep 1000 & disown; setsid sleep 1000 &")
	plugin := d.pluginPID()
	d.kill()
	_ = syscall.Kill(plugin, syscall.SIGKILL)
	if left := d.waitGone(); len(left) > 0 {
		t.Errorf("left after the lease: %v", left)
	}
}

func TestARuntimeSurvivesARestartAndTheSocketsAreCleanedUp(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start", "--sid", "mine")
	d.must("run", "--runtime", "mine", "export KEPT=yes")
	d.stop()
	if _, err := os.Stat(filepath.Join(d.dir, "data", "endpoint.json")); !os.IsNotExist(err) {
		t.Errorf("endpoint.json after the stop: %v", err)
	}
	if r := d.cli("runtimes", "ls"); r.code == 0 || !strings.Contains(r.stderr, "openhands-rt serve") {
		t.Errorf("without a daemon: exit code %d, %q", r.code, r.stderr)
	}
	d.start()
	if out := d.must("run", "--runtime", "mine", "echo $KEPT"); out != "yes" {
		t.Errorf("the shell after the restart: %q", out)
	}
	if out := d.must("runtimes", "show", id, "-o", "json"); !strings.Contains(out, `"RUNTIME_STATUS_READY"`) {
		t.Errorf("%s", out)
	}
}

func TestFiftyRuntimesAtOnce(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	const n = 50
	results := make(chan string, n)
	for i := range n {
		go func() {
			r := d.cli("exec", "--new", "--", "sh", "-c", fmt.Sprintf("echo %d", i))
			results <- fmt.Sprintf("%d %s", r.code, strings.TrimSpace(r.stdout))
		}()
	}
	seen := map[string]bool{}
	for range n {
		seen[<-results] = true
	}
	for i := range n {
		if !seen[fmt.Sprintf("0 %d", i)] {
			t.Errorf("runtime %d has no right answer", i)
		}
	}
}
