// Command noisy is a plugin that keeps the contract and writes garbage to its standard streams all the while.
package main

import (
	"bytes"
	"context"
	"os"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/broken"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/example/backend"
)

type server struct{ backend.Backend }

// noise is longer than any line that a reader may want to hold, and no text at all.
const noise = 1 << 20

// List shouts before it answers.
func (s *server) List(ctx context.Context, req *backendv1.ListRequest) (*backendv1.ListResponse, error) {
	shout()
	return s.Backend.List(ctx, req)
}

func shout() {
	garbage := append(bytes.Repeat([]byte{0xff, 0x00, '{', '"'}, noise/4), []byte("\n{\"@level\": 7, \"@message\": [], \"@timestamp\": {}}\n")...)
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		// What a broken pipe would do to it is the SDK's to prevent; nobody could be told here.
		_, _ = f.Write(garbage)
	}
}

func main() {
	broken.Main("noisy", func() backendv1.BackendServiceServer {
		shout()
		return &server{}
	})
}
