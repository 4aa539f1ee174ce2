package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken/proxy"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/launch"
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

func TestExample(t *testing.T) {
	dir := build(t, examplePackage)
	Test(t, exampleTarget(t, filepath.Join(dir, "example")))
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
	defer func() { _ = server.Wait() }()
	defer func() { _ = server.Process.Signal(os.Interrupt) }()
	if _, err := fmt.Fscan(out, new(string)); err != nil {
		t.Fatal(err)
	}
	target := exampleTarget(t)
	target.Command, target.Address = nil, "unix://"+socket
	results, err := Run(t.Context(), target, Options{})
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
}

// brokenLimit bounds a clause that waits in vain for what a broken plugin does not do.
const brokenLimit = 45 * time.Second

// TestBroken: each broken plugin fails the clauses of the rule that it breaks, and no other.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		plugin string
		breaks []string
		seen   string // part of each failure's detail
	}{
		{"twice", []string{"once/concurrent/plugin", "once/later/plugin"}, "ran"},
		{"statusorder", []string{"connect/status-order"}, "READY may not follow READY"},
		{"leaky", []string{"attach/gone", "status/gone", "close/delete", "close/processes", "close/detached", "close/calls-after"}, ""},
		{"nodetail", []string{"errors/detail"}, "Interrupt: NotFound without an ErrorDetail"},
		{"noisy", nil, ""},
	} {
		t.Run(c.plugin, func(t *testing.T) {
			dir := build(t, examplePackage, brokenPackages+c.plugin)
			target := exampleTarget(t, filepath.Join(dir, c.plugin))
			upstream := filepath.Join(dir, "example")
			target.Timeout = brokenLimit
			target.Env = []string{proxy.EnvUpstream + `=["` + upstream + `"]`}
			// What a plugin leaves behind on purpose is ended through the right one under it.
			t.Cleanup(func() { endAll(t, upstream, target.StateDir) })
			results, err := Run(t.Context(), target, Options{Logger: logTo(t)})
			if err != nil {
				t.Fatal(err)
			}
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

// endAll ends every sandbox in the folders of a run.
func endAll(t *testing.T, plugin, stateDir string) {
	ctx := context.WithoutCancel(t.Context())
	dirs, err := filepath.Glob(filepath.Join(stateDir, "*", "*", "sandbox.json"))
	if err != nil || len(dirs) == 0 {
		return
	}
	p, err := launch.Start(ctx, launch.Config{Command: []string{plugin}})
	if err != nil {
		t.Error(err)
		return
	}
	defer p.Stop()
	client := backendv1.NewBackendServiceClient(p.Conn)
	for _, file := range dirs {
		if err := endOne(ctx, client, filepath.Dir(file)); err != nil {
			t.Errorf("end %s: %v", file, err)
		}
	}
}

func endOne(ctx context.Context, client backendv1.BackendServiceClient, dir string) error {
	_, err := client.Configure(ctx, &backendv1.ConfigureRequest{Config: []byte("{}"), Owner: "any", StateDir: filepath.Dir(dir), Backend: "any"})
	if err != nil {
		return err
	}
	_, err = client.Close(ctx, &backendv1.CloseRequest{
		Handle: &backendv1.Handle{Schema: 1, SandboxId: filepath.Base(dir)}, Mode: backendv1.CloseMode_CLOSE_MODE_DELETE})
	return err
}

// TestLocal: the backend of this repository that runs on any Linux machine keeps the whole contract.
func TestLocal(t *testing.T) {
	dir := build(t, "cmd/openhands-rt", "plugins/local")
	Test(t, Target{
		Command: []string{filepath.Join(dir, "openhands-rt-plugin-local")}, StateDir: folder(t), Workspaces: folder(t),
		BadConfigs: []json.RawMessage{
			json.RawMessage(`{"level": "none of them"}`), json.RawMessage(`{"lease": 5}`), json.RawMessage(`{"limits": {"memory": 1}}`),
		},
	})
}
