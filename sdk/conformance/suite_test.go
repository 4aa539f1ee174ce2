package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// module is the import path below which the binaries of these tests are.
const module = "github.com/openhands-rt/openhands-rt"

// build compiles the main packages into one folder and returns it.
func build(t *testing.T, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range packages {
		name := filepath.Base(p)
		if strings.HasPrefix(p, "plugins/") {
			name = "openhands-rt-plugin-" + name
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), module+"/"+p)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", p, err, out)
		}
	}
	return dir
}

// folder returns a short private folder: sockets lie in it.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "conf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

const (
	examplePackage = "sdk/conformance/internal/example"
	brokenPackages = "sdk/conformance/internal/broken/"
)

// exampleTarget is the example backend, and what is known of it.
func exampleTarget(t *testing.T, command ...string) Target {
	return Target{
		Command: command, StateDir: folder(t), Workspaces: folder(t),
		Config:     json.RawMessage(`{"greeting": "hello"}`),
		BadConfigs: []json.RawMessage{json.RawMessage(`{"greeting": 5}`), json.RawMessage(`{"greeting": null}`)},
		Expect: &backendv1.Capabilities{AgentEndpoint: true, OnceOnly: true, WholeTree: true, Interactive: true, Isolation: "none",
			Kinds: []string{action.KindProcess, action.KindRun}},
	}
}

// fullRun runs clauses as many at once as Run does, and leaves no process of the binaries in dir.
func fullRun(t *testing.T, dir string, target Target, options Options) []Result {
	t.Helper()
	results, err := Run(t.Context(), target, options)
	if err != nil {
		t.Fatal(err)
	}
	wantNoProcess(t, dir)
	return results
}

// quick is what a short run tests.
func quick() Options {
	if testing.Short() {
		return Options{Only: sample()}
	}
	return Options{}
}

// sample is some of every kind of clause, that every backend keeps within a second or two.
func sample() []string {
	return []string{
		"describe/capabilities", "configure/unknown-key", "connect/intent", "attach/other-process", "execute/bytes", "once/conflict",
		"interrupt/levels", "agent/one-record", "list/paged", "capability/refused",
	}
}

func TestExample(t *testing.T) {
	dir := build(t, examplePackage)
	target := exampleTarget(t, filepath.Join(dir, "example"))
	for _, r := range fullRun(t, dir, target, quick()) {
		t.Run(r.Clause, func(t *testing.T) { report(t, r) })
	}
	if left, err := filepath.Glob(filepath.Join(target.StateDir, "*", "*", "sandbox.json")); err != nil || len(left) > 0 {
		t.Errorf("sandboxes are left: %q, %v", left, err)
	}
}

// TestTest: the same from a go test, clause by clause.
func TestTest(t *testing.T) {
	if testing.Short() {
		t.Skip("the clauses run in TestExample")
	}
	dir := build(t, examplePackage)
	t.Run("clauses", func(t *testing.T) { testSome(t, exampleTarget(t, filepath.Join(dir, "example")), sample()) })
	wantNoProcess(t, dir)
}

func TestExampleAtAnAddress(t *testing.T) {
	dir := build(t, examplePackage)
	socket := filepath.Join(folder(t), "s")
	server := exec.Command(filepath.Join(dir, "example"), "serve", "--address", "unix://"+socket)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	}
	defer stop()
	if _, err := fmt.Fscan(out, new(string)); err != nil {
		t.Fatal(err)
	}
	target := exampleTarget(t)
	target.Command, target.Address = nil, "unix://"+socket
	results, err := Run(t.Context(), target, Options{Only: append(sample(), "plugin", "connect/cancelled")})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Failed(results) {
		t.Error(r)
	}
	for _, r := range results {
		if launched := strings.HasPrefix(r.Clause, "plugin/kill"); launched && r.Status != Skip {
			t.Errorf("%s: %s against an address", r.Clause, r.Status)
		}
	}
	stop()
	wantNoProcess(t, dir)
}

// brokenLimit bounds a clause that waits in vain for what a broken plugin does not do.
const brokenLimit = 45 * time.Second

// TestBroken: each broken plugin fails exactly on the clauses of the rule that it breaks.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		plugin string
		breaks []string
		seen   string // part of each failure's detail
	}{
		{"twice", []string{"once/concurrent/plugin", "once/later/plugin"}, "the action ran"},
		{"statusorder", []string{"connect/status-order"}, "READY may not follow READY"},
		{"orphan", []string{"connect/cancelled"}, "which nobody got, is still listed"},
		{"nodetail", []string{"errors/detail"}, "Interrupt: NotFound without an ErrorDetail"},
		{"leaky", []string{"attach/gone", "status/gone", "close/delete", "close/processes", "close/detached", "close/calls-after"}, ""},
		{"noisy", nil, ""},
	} {
		t.Run(c.plugin, func(t *testing.T) {
			if testing.Short() && slices.Contains(c.breaks, "status/gone") {
				t.Skip("it waits for two heartbeats")
			}
			dir := build(t, brokenPackages+c.plugin)
			target := exampleTarget(t, filepath.Join(dir, c.plugin))
			target.Timeout = brokenLimit
			results := fullRun(t, dir, target, Options{Only: append(sample(), c.breaks...), Logger: logTo(t)})
			wantFailures(t, results, c.breaks, c.seen)
		})
	}
}

func logTo(t *testing.T) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: t.Output()})
}

func wantFailures(t *testing.T, results []Result, want []string, seen string) {
	t.Helper()
	var got []string
	for _, r := range Failed(results) {
		got = append(got, r.Clause)
		if !slices.Contains(want, r.Clause) {
			t.Errorf("it breaks another clause: %s", r)
		} else if !strings.Contains(r.Detail, seen) || !strings.Contains(r.String(), r.Rule) {
			t.Errorf("the result does not tell what is wrong (%q): %s", seen, r)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s did not notice", name)
		}
	}
}

// endLimit bounds the end of a process that was told to end.
const endLimit = 10 * time.Second

// wantNoProcess waits until no process of a program in dir is left; plugins and agents that were ended need a moment to exit.
func wantNoProcess(t *testing.T, dir string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil || len(links) == 0 {
		t.Fatalf("no processes at all: %v", err)
	}
	for _, link := range links {
		program, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(program, dir+"/") {
			continue // another's, or it has just ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil {
			t.Fatal(err)
		}
		wantExited(t, pid, program)
	}
}

func wantExited(t *testing.T, pid int, program string) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(endLimit/time.Millisecond))
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(endLimit/time.Millisecond))
	}
	if err != nil || n == 0 {
		t.Errorf("%s is left as process %d (%v)", program, pid, err)
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}
