package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// envRole turns the test binary into a plugin, as a plugin's own main would.
const envRole = "SERVE_TEST_ROLE"

// quickExit keeps the race detector from waiting a second at the end of each process.
const quickExit = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		pluginMain(role)
	}
	goleak.VerifyTestMain(m)
}

func pluginMain(role string) {
	Main(Options{Name: "test", Version: "1.2.3", New: func(env Env) (backendv1.BackendServiceServer, error) {
		switch role {
		case "refuse":
			return nil, errors.New("refused by the test")
		case "noise":
			// Both ways of printing, before the handshake; the partial line would glue itself to the handshake line.
			fmt.Println("printed by the plugin")
			fmt.Fprint(os.NewFile(1, "fd1"), "and a partial line")
		}
		env.Logger.Info("made", "role", role)
		return &testBackend{env: env}, nil
	}})
}

// testBackend has one method for each thing that a test wants to see.
type testBackend struct {
	backendv1.UnimplementedBackendServiceServer
	env Env
}

func (b *testBackend) Describe(context.Context, *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	return &backendv1.DescribeResponse{Capabilities: &backendv1.Capabilities{Pause: true}}, nil
}

func (b *testBackend) Configure(_ context.Context, req *backendv1.ConfigureRequest) (*backendv1.ConfigureResponse, error) {
	return nil, rterr.New(rterr.ConfigInvalid, "configure", "no such region").WithField("region").With("seen", string(req.GetConfig()))
}

// Pause panics; Resume prints and answers; Renew waits for the end of the call.
func (b *testBackend) Pause(context.Context, *backendv1.PauseRequest) (*backendv1.PauseResponse, error) {
	panic(errors.New("assignment to entry in nil map"))
}

func (b *testBackend) Resume(context.Context, *backendv1.ResumeRequest) (*backendv1.ResumeResponse, error) {
	fmt.Println("printed in a call", strings.Repeat("x", 200_000))
	return &backendv1.ResumeResponse{Handle: &backendv1.Handle{Opaque: make([]byte, 5<<20)}}, nil
}

func (b *testBackend) Renew(ctx context.Context, _ *backendv1.RenewRequest) (*backendv1.RenewResponse, error) {
	b.env.Logger.Info("renewing")
	<-ctx.Done()
	return nil, ctx.Err()
}

func (b *testBackend) WatchStatus(_ *backendv1.WatchStatusRequest, out grpc.ServerStreamingServer[backendv1.WatchStatusResponse]) error {
	if err := out.Send(&backendv1.WatchStatusResponse{Phase: backendv1.Phase_PHASE_RUNNING}); err != nil {
		return err
	}
	<-out.Context().Done()
	return out.Context().Err()
}

func (b *testBackend) Execute(*backendv1.ExecuteRequest, grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	panic(errors.New("boom in a stream\xff"))
}
