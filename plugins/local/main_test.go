package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/spawn"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/conformance"
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
	os.Exit(m.Run())
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
	conformance.Test(t, conformance.Target{
		Command: []string{program}, Env: []string{asPlugin + "=1"}, StateDir: t.TempDir(), Workspaces: t.TempDir(), Config: config,
		BadConfigs: []json.RawMessage{
			[]byte(`{"level":"namespaced"}`), []byte(`{"levle":"process"}`), []byte(`{"agent_binary":"/no/such"}`),
		},
	})
}
