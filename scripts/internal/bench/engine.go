package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// engine measures the agent's engine in this process: what an action costs beyond the shell itself.
func (b *bench) engine() error {
	tree, err := sandbox.NewTree(sandbox.TreeConfig{Logger: hclog.NewNullLogger()})
	if err != nil {
		return err
	}
	workspace := filepath.Join(b.dir, "workspace")
	if err := os.Mkdir(workspace, 0o700); err != nil {
		return err
	}
	e, err := engine.New(engine.Config{
		StateDir: filepath.Join(b.dir, "state"), Workspace: workspace, Env: os.Environ(), Tree: tree, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = e.Close(ctx) // the end of a benchmark
		_, _ = tree.Kill()
	}()
	discard := func(*agentv1.ActionEvent) error { return nil }
	one := func(kind string, payload any) func() error {
		return func() error {
			a, err := action.New(kind, payload, 0)
			if err != nil {
				return err
			}
			return e.Execute(b.ctx, &agentv1.ExecuteRequest{Action: a}, discard)
		}
	}
	if err := b.measure("agent run, in process", b.rounds, one(action.KindRun, action.Run{Command: "echo hi"})); err != nil {
		return err
	}
	return b.measure("agent process, in process", b.rounds/2, one(action.KindProcess, action.Process{Argv: []string{"/bin/true"}}))
}
