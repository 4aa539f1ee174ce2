package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
)

// The variables by which this test binary runs itself once more over another backend: where its binaries are, and the lines of config
// that every daemon gets.
const (
	builtVariable   = "OHRT_E2E_BUILT"
	backendVariable = "OHRT_E2E_BACKEND"
)

// slimAgent is the agent alone, out of the sight of the local plugin.
const slimAgent = "slim/openhands-rt-agent"

// elsewhere is the config of the backend that the tests run over; none for the local one, or where a test has backends of its own.
func elsewhere(yaml string) string {
	if strings.Contains(yaml, "backends:") {
		return ""
	}
	return os.Getenv(backendVariable)
}

// runloopConfig is a daemon's config for an emulator; credential is how the key is found.
func runloopConfig(emu *emulator.Server, credential string) string {
	port := 4444
	if os.Geteuid() != 0 {
		port = 0 // Devboxes share the machine's network then.
	}
	agent := filepath.Join(buildDir, slimAgent)
	return fmt.Sprintf(`
default_backend: runloop
backends:
  runloop:
    plugin: runloop
    credentials: {api_key: {%s}}
    config: {base_url: %q, tunnel_url: %q, agent_port: %d, size: SMALL, agent_binary: {x86_64: %q}}
`, credential, emu.URL(), emu.TunnelTemplate(), port, agent)
}

// emulate starts an emulator; devboxes that are left when the test ends fail it.
func emulate(t *testing.T) *emulator.Server {
	t.Helper()
	emu, err := emulator.Start(t.Context(), emulator.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := emu.Stats(); left.Alive > 0 {
			t.Errorf("devboxes are left: %s", left)
		}
		emu.Close()
	})
	return emu
}

// ofThisMachine are the tests that are about this machine's own processes, network or backends.
const ofThisMachine = `TestTwoBackendsAndASwapByConfig|TestAGoModuleIsBuiltInASandbox|TestNothingIsLeftOfARuntime|` +
	`TestWhatTheHostLeavesForGoodEndsWithItsLease|TestAWorkspaceIsSetUpAndItsSecretsStaySecret|` +
	`TestTheUserIsTheOneThatTheClientNames|TestRunloop.*`

// whatSuspendEnds are those that want a pause to keep what runs, which a devbox's does not.
const whatSuspendEnds = `TestPoint21APausedSandboxAnswers503AndComesBackAsItWas`

// theDoor are the tests of OpenHands' own protocol that run over Runloop; onlyHere are its others, which look into files of this machine.
const (
	theDoor  = `TestPoint.*|TestEqualRequestsAtOnceAreTwo|TestTheImageEndpoints`
	onlyHere = `TestSection12.*|TestTwoHundredCuts.*|TestARequestThatTheHostsDeathCutRunsOnce|TestASandboxThatIsGone.*|` +
		`TestAClientThatGoesAwayInterruptsNothing`
)

func TestRunloopSpine(t *testing.T) {
	overRunloop(t, "^Test[A-Z]", ofThisMachine+"|"+theDoor+"|"+onlyHere)
}

func TestRunloopOpenHandsDoor(t *testing.T) { overRunloop(t, "^("+theDoor+")$", whatSuspendEnds) }

// overRunloop runs tests of this binary once more, with a daemon whose sandboxes are devboxes.
func overRunloop(t *testing.T, pattern, but string) {
	emu := emulate(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.v", "-test.run", pattern, "-test.skip", "^("+but+")$", "-test.timeout", "8m",
		fmt.Sprintf("-test.short=%v", testing.Short()))
	cmd.Env = append(os.Environ(), builtVariable+"="+buildDir, backendVariable+"="+runloopConfig(emu, "env: RUNLOOP_API_KEY"),
		"RUNLOOP_API_KEY="+emu.Key())
	var out bytes.Buffer
	cmd.Stdout = &out
	if testing.Verbose() {
		cmd.Stdout = io.MultiWriter(&out, os.Stderr)
	}
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	ran := regexp.MustCompile(`(?m)^--- (PASS|FAIL|SKIP): (\w+)`).FindAllStringSubmatch(out.String(), -1)
	for _, one := range ran {
		t.Run(one[2], func(t *testing.T) {
			switch one[1] {
			case "FAIL":
				t.Error("it fails over Runloop; the whole output is that of the parent")
			case "SKIP":
				t.Skip("it is skipped over Runloop")
			}
		})
	}
	if err != nil || len(ran) == 0 {
		t.Errorf("%v, %d tests\n%s", err, len(ran), out.String())
	}
}

func TestRunloopWithoutAKey(t *testing.T) {
	t.Parallel()
	emu := emulate(t)
	d := newDaemon(t, runloopConfig(emu, "env: OHRT_E2E_NO_SUCH_KEY"))
	d.start()
	r := d.cli("exec", "--new", "--", "true")
	if r.code == 0 || !strings.Contains(r.stderr, "OHRT_E2E_NO_SUCH_KEY") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	if n := emu.Stats().Requests; n != 0 {
		t.Errorf("%d requests were sent without a key", n)
	}
}

func TestRunloopKeyIsRotated(t *testing.T) {
	t.Parallel()
	emu := emulate(t)
	file := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(emu.Key())
	d := newDaemon(t, runloopConfig(emu, "file: "+file))
	d.start()
	id := d.must("runtimes", "start")
	plugin := d.pluginPID()
	emu.SetKey("ak_rotated")
	write("ak_rotated")
	if out := d.must("exec", "--new", "--", "echo", "new"); out != "new" {
		t.Errorf("a new runtime after the rotation: %q", out)
	}
	if out := d.must("exec", "--runtime", id, "--", "echo", "old"); out != "old" {
		t.Errorf("the old runtime after the rotation: %q", out)
	}
	if d.pluginPID() != plugin {
		t.Error("the plugin was started again")
	}
	for _, secret := range []string{"ak_rotated", emulator.DefaultKey} {
		if strings.Contains(d.logs(), secret) {
			t.Errorf("the log has the key %s", secret)
		}
	}
}

func TestRunloopDevboxEndsWithItsLease(t *testing.T) {
	t.Parallel()
	emu := emulate(t)
	d := newDaemon(t, "lease: 5s\n"+runloopConfig(emu, "env: RUNLOOP_API_KEY"))
	d.env = append(d.env, "RUNLOOP_API_KEY="+emu.Key())
	d.start()
	d.must("run", "--runtime", d.must("runtimes", "start"), "sleep 1000 & disown")
	plugin := d.pluginPID()
	d.kill()
	_ = syscall.Kill(plugin, syscall.SIGKILL)
	for deadline := time.Now().Add(limit); emu.Stats().Alive > 0; time.Sleep(50 * time.Millisecond) { // somebody else's end is no event here
		if time.Now().After(deadline) {
			t.Fatalf("left after the lease: %s", emu.Stats())
		}
	}
}
