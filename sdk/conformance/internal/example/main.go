// Command example is the smallest backend that keeps the whole contract: a sandbox is an agent process in a folder.
//
// docs/plugin-authors.md walks through it; the conformance suite runs against it. It walls nothing off: use plugins/local for work.
package main

import (
	"os"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/example/backend"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

func main() {
	// The same binary is the agent in the sandbox. A provider's image has `openhands-rt agent` instead.
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(boot.Main(os.Args[2:]))
	}
	serve.Main(serve.Options{
		Name: "example", Version: "1.0.0",
		New: func(serve.Env) (backendv1.BackendServiceServer, error) { return &backend.Backend{}, nil },
	})
}
