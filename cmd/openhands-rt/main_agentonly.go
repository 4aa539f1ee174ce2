//go:build agentonly

// Command openhands-rt, built with the tag agentonly, is the sandbox agent alone.
package main

import (
	"fmt"
	"os"

	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != "agent" {
		fmt.Fprintln(os.Stderr, "openhands-rt: this build has the agent role alone\n→ run `openhands-rt agent --help`")
		os.Exit(boot.ExitUsage)
	}
	os.Exit(boot.Main(os.Args[2:]))
}
