package boot

import (
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// engineDir is the engine's own folder in the state directory.
const engineDir = "engine"

// newEngine makes the engine that every agent has outside of tests.
func newEngine(cfg Config, tree sandbox.Tree, log hclog.Logger) (server.Engine, error) {
	all, err := kinds(cfg, log)
	if err != nil {
		return nil, err
	}
	return engine.New(engine.Config{
		StateDir: filepath.Join(cfg.StateDir, engineDir), Workspace: cfg.Workspace, Env: cfg.environ(), Tree: tree,
		RecordTTL: time.Duration(cfg.RecordTTL), Kinds: all, Logger: log,
	})
}
