package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
	"github.com/openhands-rt/openhands-rt/sdk/conformance"
)

const asPlugin = "RUNLOOP_TEST_PLUGIN"

// agentPath is the sandbox agent alone, built for these tests.
var agentPath string //nolint:gochecknoglobals // made once by TestMain for all tests

// The test binary is also the plugin.
func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ohrt-runloop-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		agentPath = filepath.Join(dir, "openhands-rt-agent")
		cmd := exec.Command("go", "build", "-tags", "agentonly", "-ldflags", "-s -w", "-o", agentPath, "../../cmd/openhands-rt")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the agent: %v\n%s", err, text)
			return 1
		}
		return m.Run()
	}())
}

// emulate starts an emulator; devboxes that are left when the test ends fail it.
func emulate(t *testing.T, cfg emulator.Config) *emulator.Server {
	t.Helper()
	emu, err := emulator.Start(t.Context(), cfg)
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

// settings are a plugin's config for an emulator, with some keys over it.
func settings(t *testing.T, emu *emulator.Server, over map[string]any) json.RawMessage {
	t.Helper()
	all := map[string]any{
		"base_url": emu.URL(), "tunnel_url": emu.TunnelTemplate(), "size": "SMALL",
		"agent_binary": map[string]string{"x86_64": agentPath, "arm64": agentPath},
		"retry":        map[string]any{"delay": "20ms"},
	}
	delete(all["agent_binary"].(map[string]string), map[string]string{"amd64": "arm64", "arm64": "x86_64"}[goarch()])
	if os.Geteuid() != 0 {
		all["agent_port"] = 0 // Devboxes share the machine's network then.
	}
	for key, value := range over {
		all[key] = value
	}
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func goarch() string {
	out, _ := exec.Command("go", "env", "GOARCH").Output()
	if string(out) == "arm64\n" {
		return "arm64"
	}
	return "amd64"
}

func TestConformance(t *testing.T) {
	emu := emulate(t, emulator.Config{})
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	target := conformance.Target{
		Command: []string{program}, Env: []string{asPlugin + "=1"}, StateDir: t.TempDir(), Config: settings(t, emu, nil),
		Credentials: map[string]string{config.APIKey: emu.Key()},
		BadConfigs: []json.RawMessage{
			[]byte(`{"base_url":"ftp://x"}`), []byte(`{"agent":"theirs"}`), []byte(`{"agent_binary":{"x86_64":"/no/such"}}`),
			[]byte(`{"sise":"LARGE"}`),
		},
	}
	judge(t, target)
}

// TestConformanceWithoutAnAgent judges the mode in which the API's own executions and files serve.
func TestConformanceWithoutAnAgent(t *testing.T) {
	emu := emulate(t, emulator.Config{})
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	judge(t, conformance.Target{
		Command: []string{program}, Env: []string{asPlugin + "=1"}, StateDir: t.TempDir(),
		Config: settings(t, emu, map[string]any{"agent": "none"}), Credentials: map[string]string{config.APIKey: emu.Key()},
	})
}

func judge(t *testing.T, target conformance.Target) {
	t.Helper()
	var options conformance.Options // every clause, several at once: most of a clause's time is waiting
	if testing.Short() {
		options.Only = []string{"configure", "connect/intent", "attach/paused", "execute/bytes", "agent", "pause/lost", "close"}
	}
	results, err := conformance.Run(t.Context(), target, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		t.Run(r.Clause, func(t *testing.T) {
			switch r.Status {
			case conformance.Fail:
				t.Error(r)
			case conformance.Skip:
				t.Skip(r.Detail)
			}
		})
	}
}
