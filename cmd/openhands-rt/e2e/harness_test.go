// Package e2e drives the real binaries as an operator would: a daemon, its plugins, agents in sandboxes, and the CLI.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// buildDir has the binaries of this run.
var buildDir string //nolint:gochecknoglobals // made once by TestMain for all tests

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ohrt-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
		if buildDir = os.Getenv(builtVariable); buildDir != "" {
			return m.Run() // Once more, by a test: over another backend.
		}
		buildDir = dir
		// What scripts/python has made, where the local backend looks for it.
		if python, err := filepath.Abs("../../../bin/python"); err == nil {
			_ = os.Symlink(python, filepath.Join(dir, "python"))
		}
		for out, pkg := range map[string]string{
			"openhands-rt": "../../../cmd/openhands-rt", "openhands-rt-plugin-local": "../../../plugins/local",
			"openhands-rt-plugin-runloop": "../../../plugins/runloop", slimAgent: "../../../cmd/openhands-rt",
		} {
			args := []string{"build", "-o", filepath.Join(dir, out)}
			if out == slimAgent {
				args = append(args, "-tags", "agentonly", "-ldflags", "-s -w")
			}
			cmd := exec.Command("go", append(args, pkg)...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, text)
				return 1
			}
		}
		return m.Run()
	}())
}

// limit bounds every wait of these tests; it is long because machines are slow, not because anything should take so long.
const limit = 2 * time.Minute

// daemon is one `openhands-rt serve` and its folder. It can be killed and started again.
type daemon struct {
	t   *testing.T
	bin string
	dir string
	env []string
	cmd *exec.Cmd
}

// newDaemon prepares a daemon in a fresh folder, with extra config lines in YAML. It is stopped with the test, and whatever of
// it is left then fails the test.
func newDaemon(t *testing.T, yaml string) *daemon {
	t.Helper()
	d := &daemon{t: t, bin: filepath.Join(buildDir, "openhands-rt"), dir: t.TempDir()}
	d.writeConfig(yaml + elsewhere(yaml))
	d.env = append(cleanEnv(), "OPENHANDS_RT_DATA_DIR="+filepath.Join(d.dir, "data"))
	t.Cleanup(d.cleanUp)
	return d
}

func cleanEnv() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPENHANDS_RT_") {
			out = append(out, kv)
		}
	}
	return out
}

func (d *daemon) writeConfig(yaml string) {
	text := "listen: 127.0.0.1:0\nsandbox_listen: 127.0.0.1:0\n" + yaml
	if err := os.WriteFile(filepath.Join(d.dir, "config.yaml"), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// start runs the daemon and returns when it says that it is ready.
func (d *daemon) start() {
	d.t.Helper()
	d.cmd = exec.Command(d.bin, "serve", "--config", filepath.Join(d.dir, "config.yaml"))
	d.cmd.Env = d.env
	logFile, err := os.OpenFile(filepath.Join(d.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer logFile.Close()
	d.cmd.Stderr = logFile
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		scanner := bufio.NewScanner(stdout)
		ready <- scanner.Scan()
		_, _ = io.Copy(io.Discard, stdout)
	}()
	select {
	case ok := <-ready:
		if !ok {
			d.t.Fatalf("the daemon ended before it was ready:\n%s", d.logs())
		}
	case <-time.After(limit):
		d.t.Fatalf("the daemon is not ready:\n%s", d.logs())
	}
}

func (d *daemon) logs() string {
	text, _ := os.ReadFile(filepath.Join(d.dir, "serve.log"))
	return string(text)
}

// kill ends the daemon as a crash does.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	d.cmd = nil
}

// stop ends the daemon as an operator does.
func (d *daemon) stop() {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- d.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			d.t.Errorf("the daemon ended with %v:\n%s", err, d.logs())
		}
	case <-time.After(limit):
		_ = d.cmd.Process.Kill()
		d.t.Errorf("the daemon does not stop:\n%s", d.logs())
	}
	d.cmd = nil
}

func (d *daemon) cleanUp() {
	if d.cmd != nil {
		d.cli("runtimes", "stop", "--all")
		d.stop()
	}
	if left := d.waitGone(); len(left) > 0 {
		d.t.Errorf("processes are left:\n%s", strings.Join(left, "\n"))
		for _, line := range left {
			if pid, err := strconv.Atoi(strings.Fields(line)[0]); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if d.t.Failed() {
		d.t.Logf("the daemon's log:\n%s", d.logs())
	}
}

// result is what a command of the CLI did.
type result struct {
	stdout, stderr string
	code           int
}

// command prepares a CLI command.
func (d *daemon) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Env = d.env
	return cmd
}

// cli runs a CLI command to its end.
func (d *daemon) cli(args ...string) result { return d.cliWith(nil, args...) }

func (d *daemon) cliWith(stdin io.Reader, args ...string) result {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := d.command(ctx, args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	// Errorf, not Fatalf: some callers are goroutines of a test.
	if ctx.Err() != nil {
		d.t.Errorf("%s does not end; so far: %q, %q", strings.Join(args, " "), stdout.String(), stderr.String())
	} else if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
		d.t.Errorf("%s: %v", strings.Join(args, " "), err)
		return result{code: -1}
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must is cli for commands that have to succeed; it returns what they print, trimmed.
func (d *daemon) must(args ...string) string {
	d.t.Helper()
	r := d.cli(args...)
	if r.code != 0 {
		d.t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// pluginPID is the pid of a backend's plugin.
func (d *daemon) pluginPID() int {
	d.t.Helper()
	found := regexp.MustCompile(`"pid":\s*"?(\d+)"?`).FindStringSubmatch(d.must("backends", "ls", "-o", "json"))
	if found == nil {
		d.t.Fatal("no plugin has a pid")
	}
	pid, _ := strconv.Atoi(found[1])
	return pid
}

// waitGone returns the processes that still have to do with this daemon's folder once no more of them end by themselves.
func (d *daemon) waitGone() []string {
	deadline := time.Now().Add(20 * time.Second)
	for {
		left := processesOf(d.dir)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(50 * time.Millisecond) // the end of somebody else's process is no event for us
	}
}

// processesOf lists the processes whose command line, environment or mounts name a folder.
func processesOf(dir string) []string {
	var out []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, name := range []string{"cmdline", "environ", "mountinfo"} {
			text, _ := os.ReadFile(filepath.Join("/proc", e.Name(), name))
			if bytes.Contains(text, []byte(dir)) {
				cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
				out = append(out, fmt.Sprintf("%d %s", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
				break
			}
		}
	}
	return out
}
