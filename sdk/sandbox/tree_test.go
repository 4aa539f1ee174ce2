package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// testCgroup returns the folder of a cgroup v2 of the test's own, or skips.
func testCgroup(t *testing.T) string {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(mount, fmt.Sprintf("sandbox-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "_")))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the cgroup is left: %v", err)
			}
		})
		return dir
	}
	t.Skip("no writable cgroup v2 here")
	return ""
}

// eachTree runs a test on both kinds, and checks that nothing is left: no process, no zombie, no cgroup.
func eachTree(t *testing.T, test func(t *testing.T, tree Tree)) {
	t.Run(KindCgroup2, func(t *testing.T) {
		dir := testCgroup(t)
		runTree(t, TreeConfig{Cgroup: filepath.Join(dir, "tree")}, test)
	})
	t.Run(KindWalk, func(t *testing.T) { runTree(t, TreeConfig{}, test) })
}

func runTree(t *testing.T, cfg TreeConfig, test func(t *testing.T, tree Tree)) {
	tree, err := NewTree(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tracked := &trackedTree{Tree: tree}
	defer func() {
		if _, err := tree.Kill(); err != nil {
			t.Error(err)
		}
		for _, cmd := range tracked.cmds {
			_ = cmd.Wait() // Those that were killed say so; those that were waited for say that.
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
		if err := tree.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		for pid := range childrenOf(os.Getpid()) {
			if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
				t.Errorf("child %d is left: %s", pid, cmdline)
			}
		}
	}()
	test(t, tracked)
}

// trackedTree knows what is to be waited for.
type trackedTree struct {
	Tree
	cmds []*exec.Cmd
}

func (t *trackedTree) Start(cmd *exec.Cmd, group string) error {
	err := t.Tree.Start(cmd, group)
	if err == nil {
		t.cmds = append(t.cmds, cmd)
	}
	return err
}

// sh starts a script in a group and returns a reader of its lines.
func sh(t *testing.T, tree Tree, group, script string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Start(cmd, group); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// number reads a line with a pid.
func number(t *testing.T, lines *bufio.Scanner) int {
	t.Helper()
	if !lines.Scan() {
		t.Fatalf("no line: %v", lines.Err())
	}
	n, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gone waits for the end of a process.
func gone(t *testing.T, pid int) {
	t.Helper()
	st, err := readStat(pid)
	if err != nil || st.dead() {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := WaitProcess(ctx, pid, st.start); err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
}

func lives(t *testing.T, pid int) {
	t.Helper()
	st, err := readStat(pid)
	if err != nil || st.dead() {
		t.Fatalf("process %d does not live: %v", pid, err)
	}
}

// escapees starts, in one group, a plain child, an orphan, an orphan in a session of its own, and one without environment.
const escapees = `sleep 600 & echo $!; (sleep 600 >/dev/null & echo $!); setsid sh -c 'sleep 600 >/dev/null & echo $!';
	(env -i setsid sh -c 'sleep 600 >/dev/null & echo $!'); echo ready; wait`

func escaped(t *testing.T, lines *bufio.Scanner) []int {
	t.Helper()
	pids := []int{number(t, lines), number(t, lines), number(t, lines), number(t, lines)}
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("not ready: %q", lines.Text())
	}
	return pids
}

func TestKillReachesAll(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		cmd, lines := sh(t, tree, "a1", escapees)
		pids := escaped(t, lines)
		have, err := tree.Pids()
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range append(pids, cmd.Process.Pid) {
			if !slices.Contains(have, pid) {
				t.Errorf("pid %d is not in the tree %v", pid, have)
			}
		}
		n, err := tree.Kill()
		if err != nil || n < 5 {
			t.Fatalf("killed %d: %v", n, err)
		}
		for _, pid := range pids {
			gone(t, pid)
		}
		if n, err := tree.Kill(); n != 0 || err != nil {
			t.Errorf("a second Kill: %d, %v", n, err)
		}
		_, lines = sh(t, tree, "", "echo 1")
		_, inGroup := sh(t, tree, "a1", "echo 1")
		if number(t, lines) != 1 || number(t, inGroup) != 1 {
			t.Error("a killed tree cannot be used again")
		}
	})
}

func TestSignalGroup(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		_, mine := sh(t, tree, "a1", `sleep 600 & echo $!; (setsid sleep 600 >/dev/null & echo $!); wait`)
		inA := []int{number(t, mine), number(t, mine)}
		_, other := sh(t, tree, "a2", `sleep 600 & echo $!; wait`)
		_, main := sh(t, tree, "", `sleep 600 & echo $!; wait`)
		inB, inMain := number(t, other), number(t, main)
		if n, err := tree.Signal("a1", syscall.SIGTERM); n < 3 || // A subshell may be on its way out.
			err != nil {
			t.Fatalf("signalled %d: %v", n, err)
		}
		for _, pid := range inA {
			gone(t, pid)
		}
		lives(t, inB)
		lives(t, inMain)
		if n, err := tree.Signal("unknown", syscall.SIGKILL); n != 0 || err != nil {
			t.Errorf("an unknown group: %d, %v", n, err)
		}
		if n, err := tree.Signal("a2", syscall.SIGKILL); n != 2 || err != nil {
			t.Errorf("killed %d: %v", n, err)
		}
		gone(t, inB)
		lives(t, inMain)
		if n, err := tree.Signal("", syscall.SIGKILL); n != 2 || err != nil {
			t.Errorf("killed %d of the tree itself: %v", n, err)
		}
	})
}

func TestSignalSince(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		shell := exec.Command("sh")
		in, err := shell.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := shell.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Start(shell, ""); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		fmt.Fprintln(in, "sleep 600 >/dev/null & echo $!")
		before := number(t, lines)
		mark := tree.Mark()
		fmt.Fprintln(in, "(setsid sleep 600 >/dev/null & echo $!); sleep 600 >/dev/null & echo $!; sleep 600 >/dev/null & echo $!")
		after := []int{number(t, lines), number(t, lines)}
		spared := number(t, lines)
		_, grouped := sh(t, tree, "a1", "sleep 600 >/dev/null & echo $!; wait")
		inGroup := number(t, grouped)
		n, err := tree.SignalSince(mark, syscall.SIGKILL, spared, shell.Process.Pid)
		if n < 2 || err != nil { // A subshell may be on its way out.
			t.Fatalf("signalled %d: %v", n, err)
		}
		for _, pid := range after {
			gone(t, pid)
		}
		for _, pid := range []int{before, spared, inGroup, shell.Process.Pid} {
			lives(t, pid)
		}
	})
}

// TestSignalForkBomb: what forks as fast as it can does not outrun a signal.
func TestSignalForkBomb(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		_, lines := sh(t, tree, "a1", `f() { while :; do sleep 600 & n=$((n+1)); [ $n -ge 60 ] && break; done; }; echo 1; f; wait`)
		number(t, lines)
		if n, err := tree.Signal("a1", syscall.SIGKILL); n < 1 || err != nil {
			t.Fatalf("signalled %d: %v", n, err)
		}
		for range 3 { // A kill is not a wait.
			pids, err := tree.Pids()
			if err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				gone(t, pid)
			}
		}
	})
}

func TestForget(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		mark := tree.Mark()
		_, lines := sh(t, tree, "a1", `(setsid sleep 600 >/dev/null & echo $!)`)
		pid := number(t, lines)
		if n, err := tree.SignalSince(mark, syscall.SIGKILL); n != 0 || err != nil {
			t.Fatalf("a named group was signalled: %d, %v", n, err)
		}
		for range 2 {
			if err := tree.Forget("a1"); err != nil {
				t.Fatal(err)
			}
		}
		lives(t, pid)
		if n, err := tree.SignalSince(mark, syscall.SIGKILL); n < 1 || err != nil {
			t.Fatalf("signalled %d: %v", n, err)
		}
		gone(t, pid)
	})
}

func TestFreeze(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		_, lines := sh(t, tree, "a1", "i=0; while :; do i=$((i+1)); echo $i; done")
		number(t, lines)
		for range 2 {
			if err := tree.Freeze(); err != nil {
				t.Fatal(err)
			}
		}
		if err := tree.Start(exec.Command("true"), ""); !rterr.Is(err, rterr.SandboxPaused) {
			t.Errorf("a start in a frozen tree: %v", err)
		}
		pids, err := tree.Pids()
		if err != nil || len(pids) != 1 {
			t.Fatalf("%v, %v", pids, err)
		}
		before := cpuOf(t, pids[0])
		if n, err := tree.Signal("a1", syscall.SIGURG); n != 1 || err != nil { // A signal does not thaw.
			t.Errorf("signalled %d: %v", n, err)
		}
		if after := cpuOf(t, pids[0]); after != before {
			t.Errorf("it ran while frozen: %s, then %s", before, after)
		}
		for range 2 {
			if err := tree.Thaw(); err != nil {
				t.Fatal(err)
			}
		}
		for range 10_000 { // More than a pipe holds.
			number(t, lines)
		}
		if err := tree.Freeze(); err != nil {
			t.Fatal(err)
		}
		if n, err := tree.Kill(); n != 1 || err != nil {
			t.Errorf("killed %d frozen ones: %v", n, err)
		}
	})
}

// cpuOf returns how often a process was switched, which changes whenever it runs.
func cpuOf(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndex(string(raw), ")"):]))
	return fields[12] + "+" + fields[13]
}

// TestReaperLeavesCommands: orphans are reaped, commands are left to their Wait, also those that the tree does not know.
func TestReaperLeavesCommands(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		for i := range 30 {
			cmd := exec.Command("sh", "-c", "(true &) ; exit 7")
			if err := tree.Start(cmd, fmt.Sprintf("a%d", i)); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
				t.Fatalf("round %d: %v", i, err)
			}
			if err := exec.Command("true").Run(); err != nil {
				t.Fatalf("a command outside the tree: %v", err)
			}
			if err := tree.Forget(fmt.Sprintf("a%d", i)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestStartRefusals(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		for _, group := range []string{"a/b", "..\x00", strings.Repeat("x", 129), "a b"} {
			if err := tree.Start(exec.Command("true"), group); !rterr.Is(err, rterr.InvalidArgument) {
				t.Errorf("group %q: %v", group, err)
			}
		}
		if err := tree.Start(exec.Command("/no/such/program"), "a1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a program that is not there: %v", err)
		}
		if n, err := tree.Signal("a1", syscall.SIGKILL); n != 0 || err != nil {
			t.Errorf("its group: %d, %v", n, err)
		}
	})
}

func TestStartKeepsAttributes(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		cmd := exec.Command("sh", "-c", "echo $PPID; cut -d' ' -f6 /proc/$$/stat; echo $$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Start(cmd, ""); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if ppid := number(t, lines); ppid != os.Getpid() {
			t.Errorf("parent is %d", ppid)
		}
		if session, pid := number(t, lines), number(t, lines); session != pid {
			t.Errorf("session %d of process %d", session, pid)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseRefusesLive(t *testing.T) {
	eachTree(t, func(t *testing.T, tree Tree) {
		_, lines := sh(t, tree, "", "echo 1; exec sleep 600")
		number(t, lines)
		if err := tree.Close(); !rterr.Is(err, rterr.IllegalState) {
			t.Errorf("closed with a live process: %v", err)
		}
	})
}

func TestNewTreeRefusesOrdinaryFolder(t *testing.T) {
	if _, err := NewTree(TreeConfig{Cgroup: t.TempDir()}); !rterr.Is(err, rterr.Unsupported) {
		t.Errorf("an ordinary folder: %v", err)
	}
}

func TestLimitGroupInherited(t *testing.T) {
	dir := fmt.Sprintf("/sys/fs/cgroup/pids/sandbox-test-%d", os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("no writable v1 pids cgroup here")
	}
	defer func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("the limit group is left: %v", err)
		}
	}()
	if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte("4"), 0); err != nil {
		t.Fatal(err)
	}
	runTree(t, TreeConfig{LimitGroups: []string{dir}}, func(t *testing.T, tree Tree) {
		var err error
		started := 0
		for range 5 {
			cmd := exec.Command("sleep", "600")
			if err = tree.Start(cmd, ""); err != nil {
				break
			}
			started++
		}
		if !rterr.Is(err, rterr.LimitExceeded) || started != 3 { // The thread that forks is one of the four.
			t.Errorf("%d started, then %v", started, err)
		}
		if _, err := tree.Kill(); err != nil {
			t.Error(err)
		}
	})
}

func TestMarkOrdersWithinATick(t *testing.T) {
	m := Mark{Ticks: 100, pid: 1000}
	for name, c := range map[string]struct {
		s    stat
		want bool
	}{
		"earlier tick":             {stat{pid: 2000, start: 99}, false},
		"later tick":               {stat{pid: 10, start: 101}, true},
		"same tick, pid before":    {stat{pid: 1000, start: 100}, false},
		"same tick, pid after":     {stat{pid: 1001, start: 100}, true},
		"same tick, before a wrap": {stat{pid: 32000, start: 100}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := m.before(c.s); got != c.want {
				t.Errorf("before is %v", got)
			}
		})
	}
	if !(Mark{Ticks: 100, pid: 32000}).before(stat{pid: 5, start: 100}) {
		t.Error("a pid after a wrap")
	}
}

func FuzzParseStat(f *testing.F) {
	raw, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("12 (a) R 1) S 3 4 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 77"))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := parseStat(raw)
		if err != nil && st != (stat{}) {
			t.Errorf("an error and a value: %+v", st)
		}
	})
}

func FuzzEventValue(f *testing.F) {
	f.Add([]byte("populated 1\nfrozen 0\n"), "frozen")
	f.Fuzz(func(t *testing.T, raw []byte, key string) {
		if v, err := eventValue(raw, key); err == nil && v == 0 && !strings.Contains(string(raw), "\x00") {
			t.Error("a zero value")
		}
	})
}

func TestParseStatHostileName(t *testing.T) {
	st, err := parseStat([]byte("12 (x) R 1 1) S 3 4 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 77 0"))
	if err != nil || st.ppid != 3 || st.session != 5 || st.start != 77 || st.state != 'S' {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestSignalProcess(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := StartTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := SignalProcess(cmd.Process.Pid, start+1, unix.SIGKILL); err != nil || !Alive(cmd.Process.Pid, start) {
		t.Errorf("another process was signalled: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WaitProcess(ctx, cmd.Process.Pid, start); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
	if err := SignalProcess(cmd.Process.Pid, start, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := WaitProcess(t.Context(), cmd.Process.Pid, start); err != nil {
		t.Error(err)
	}
	if Alive(cmd.Process.Pid, start) {
		t.Error("a zombie is alive")
	}
	_ = cmd.Wait()
	if _, err := StartTime(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("start time of nobody: %v", err)
	}
}
