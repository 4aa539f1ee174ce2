// Command openhands-rt-plugin-local makes sandboxes on this machine: an agent and its process tree, with a /workspace and a HOME
// of their own.
package main

import (
	"os"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/service"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/spawn"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// version is set by the build.
var version = "dev"

func main() {
	// Started by ourselves between clone and the agent: nothing of a plugin may run there.
	if len(os.Args) > 1 && os.Args[1] == spawn.EnterRoot {
		sandbox.EnterMain(os.Args[2:])
	}
	// What the plugin inherited must not live on in agents, which outlive it. An old kernel cannot say so: then the agent alone
	// keeps it from its commands.
	_ = spawn.KeepDescriptors()
	serve.Main(serve.Options{Name: "local", Version: version, New: service.New(version)})
}
