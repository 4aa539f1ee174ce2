// Command twice is a plugin that breaks the once-only rule: an action id that it knows already runs again under another id.
package main

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/example/backend"
)

type server struct {
	backend.Backend

	mu   sync.Mutex
	seen map[string]string // digests by action id
}

// Execute forgets that it has seen the very same request before. A reader that goes on at an offset is left alone.
func (s *server) Execute(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	if !req.GetAttachOnly() && len(req.GetFrom()) == 0 && s.known(req.GetAction()) {
		req = proto.CloneOf(req)
		req.Action.Id = action.NewID()
	}
	return s.Backend.Execute(req, out)
}

func (s *server) known(a *agentv1.Action) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest, known := s.seen[a.GetId()]
	if !known {
		s.seen[a.GetId()] = a.GetDigest()
	}
	return known && digest == a.GetDigest()
}

func main() {
	broken.Main("twice", func() backendv1.BackendServiceServer { return &server{seen: map[string]string{}} })
}
