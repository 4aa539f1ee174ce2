package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/spawn"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/conformance"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

const asPlugin = "LOCAL_TEST_PLUGIN"

// The test binary is also the plugin and the agent.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "agent":
		os.Exit(boot.Main(os.Args[2:]))
	case os.Getenv(asPlugin) != "", len(os.Args) > 1 && os.Args[1] == spawn.EnterRoot:
		main()
	}
	code := m.Run()
	// Our cgroup stays while it has sandboxes, also those of somebody else; it goes with the last.
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		_ = os.Remove(filepath.Join(hierarchy, sandbox.BaseName))
	}
	os.Exit(code)
}

func TestConformance(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"agent_binary": program})
	if err != nil {
		t.Fatal(err)
	}
	target := conformance.Target{
		Command: []string{program}, Env: []string{asPlugin + "=1"}, StateDir: t.TempDir(), Workspaces: t.TempDir(), Config: config,
		BadConfigs: []json.RawMessage{
			[]byte(`{"level":"namespaced"}`), []byte(`{"levle":"process"}`), []byte(`{"agent_binary":"/no/such"}`),
			[]byte(`{"limits":{"memory":1}}`), []byte(`{"lease":5}`),
		},
	}
	var options conformance.Options // every clause, several at once: most of a clause's time is waiting
	if testing.Short() {
		options.Only = []string{"configure", "connect/intent", "attach/paused", "execute/bytes", "agent", "pause/holds", "close", "limit/pids"}
	}
	results, err := conformance.Run(t.Context(), target, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		t.Run(r.Clause, func(t *testing.T) { verdict(t, r) })
	}
}

func verdict(t *testing.T, r conformance.Result) {
	switch r.Status {
	case conformance.Fail:
		t.Error(r)
	case conformance.Skip:
		t.Skip(r.Detail)
	}
}
