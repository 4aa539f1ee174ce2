// Package broken is the main of the plugins that are broken on purpose: each is the example backend with one thing changed, so
// that a run of the suite against it fails on the clauses of that one thing. Nothing but those mains imports it.
//
//	go build -o twice ./sdk/conformance/internal/broken/twice && openhands-rt plugins verify ./twice
package broken

import (
	"os"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// Main serves what build returns under a name; the same binary is the agent in its sandboxes. It does not return.
func Main(name string, build func() backendv1.BackendServiceServer) {
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(boot.Main(os.Args[2:]))
	}
	serve.Main(serve.Options{
		Name: name, Version: "1.0.0",
		New: func(serve.Env) (backendv1.BackendServiceServer, error) { return build(), nil },
	})
}
