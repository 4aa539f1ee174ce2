//go:build !agentonly

// Command openhands-rt is the daemon, the sandbox agent and the command line, by its first argument.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
)

func main() {
	// The agent lives in every sandbox: nothing else of this binary is started for it.
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(boot.Main(os.Args[2:]))
	}
	os.Exit(run())
}

func run() int {
	signals := make(chan os.Signal, 8)
	// SIGPIPE too: a closed stdout is then an error that can be acted on, not an end in the middle.
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGWINCH, syscall.SIGPIPE)
	defer signal.Stop(signals)
	return cli.Main(context.Background(), cli.Env{
		Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv: os.Getenv, Environ: os.Environ(), Signals: signals, Now: time.Now,
	})
}
