package boot

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/agent/ipython"
	"github.com/openhands-rt/openhands-rt/sdk/agent/kernel"
	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/agent/skills"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// The folders of the engine and the kernel in the state directory, and of the kernel's virtual environment in HOME, where the
// sandbox's user may write.
const (
	engineDir = "engine"
	kernelDir = "kernel"
	venvDir   = ".openhands-rt/python"
)

// newEngine makes the engine that every agent has outside of tests.
func newEngine(cfg Config, tree sandbox.Tree, log hclog.Logger) (server.Engine, error) {
	quiet, err := cfg.noChangeTimeout()
	if err != nil {
		return nil, err // Validate has refused it.
	}
	k, err := newKernel(cfg, tree, log.Named("kernel"))
	if err != nil {
		return nil, err
	}
	all, err := kinds(cfg, log)
	if err != nil {
		return nil, err
	}
	if k != nil {
		all[action.KindRunIPython] = ipython.New(k)
	}
	e, err := engine.New(engine.Config{
		StateDir: filepath.Join(cfg.StateDir, engineDir), Workspace: cfg.Workspace, Env: cfg.environ(), Tree: tree,
		RecordTTL: time.Duration(cfg.RecordTTL), Kinds: all, NoChangeTimeout: quiet, Logger: log,
	})
	switch {
	case k == nil:
		return e, err
	case err != nil:
		return nil, errors.Join(err, k.Close(context.Background())) // It has not been started.
	}
	k.Warm(cfg.Workspace)
	return e, nil
}

// newKernel returns the kernel for the features that were asked for, nil if it was not.
func newKernel(cfg Config, tree sandbox.Tree, log hclog.Logger) (*kernel.Kernel, error) {
	if !slices.Contains(cfg.Features, FeatureJupyter) {
		return nil, nil
	}
	c := kernel.Config{Dir: filepath.Join(cfg.StateDir, kernelDir), Venv: filepath.Join(cfg.Home, venvDir), Workspace: cfg.Workspace,
		Python: cfg.Python, Env: cfg.environ(), Tree: tree, Logger: log}
	if slices.Contains(cfg.Features, FeatureAgentSkills) {
		c.Packages, c.Init = map[string]fs.FS{"skills": skills.Files()}, skills.Import
	}
	return kernel.New(c)
}
