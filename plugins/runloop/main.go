// Command openhands-rt-plugin-runloop makes sandboxes on Runloop: devboxes, reached through their tunnels.
package main

import (
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/service"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// version is set by the build.
var version = "dev"

func main() {
	serve.Main(serve.Options{Name: "runloop", Version: version, New: service.New(version)})
}
