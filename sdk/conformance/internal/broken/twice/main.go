// Command twice is a plugin that breaks the once-only rule: an action id that it knows already runs again under another id.
package main

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken/proxy"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

type backend struct {
	proxy.Backend

	mu   sync.Mutex
	seen map[string]string // digests by action id
}

// Execute forgets that it has seen the very same request before. A reader that goes on at an offset is left alone.
func (b *backend) Execute(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	if !req.GetAttachOnly() && len(req.GetFrom()) == 0 && b.known(req.GetAction()) {
		req = proto.CloneOf(req)
		req.Action.Id = action.NewID()
	}
	return b.Backend.Execute(req, out)
}

func (b *backend) known(a *agentv1.Action) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	digest, known := b.seen[a.GetId()]
	if !known {
		b.seen[a.GetId()] = a.GetDigest()
	}
	return known && digest == a.GetDigest()
}

func main() {
	serve.Main(serve.Options{Name: "twice", Version: "1.0.0", New: func(serve.Env) (backendv1.BackendServiceServer, error) {
		return &backend{seen: map[string]string{}}, nil
	}})
}
