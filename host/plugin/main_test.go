package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// envRole makes the test binary a plugin, good or bad, or a host.
const envRole = "PLUGIN_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		playRole(role)
	}
	goleak.VerifyTestMain(m)
}

func playRole(role string) {
	switch role {
	case "exit":
		fmt.Fprintln(os.Stderr, "cannot find my library")
		os.Exit(7)
	case "mute": // never shakes hands, and will not be told
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		fmt.Fprintln(os.Stderr, "mute")
		select {}
	case "noise":
		shout()
	case "foreign":
		foreignMain(false)
	case "deaf":
		foreignMain(true)
	case "host":
		hostMain()
	}
	serve.Main(serve.Options{Name: "test", Version: "1.0", New: func(env serve.Env) (backendv1.BackendServiceServer, error) {
		return &testBackend{env: env}, nil
	}})
}

// shout writes what no reader of logs likes, to both streams, before the handshake.
func shout() {
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		fmt.Fprintln(f, `{"@message":5,"@level":{"a":1},"@timestamp":[],"x":null}`)
		fmt.Fprintln(f, `{"@message":"cut`)
		fmt.Fprintf(f, "%s\n", bytes.Repeat([]byte("long "), 1<<20/5))
		_, _ = f.Write([]byte("\x00\xff\x1b[31m\n\n\n"))
	}
	fmt.Fprint(os.Stdout, "a line without its end")
}

// foreignMain is a plugin made with go-plugin alone: it prints through go-plugin's streams and stays when it is told to go, until
// a signal comes, or for good.
func foreignMain(deaf bool) {
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	stderr := os.Stderr // go-plugin replaces it
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: serve.Handshake(), VersionedPlugins: serve.Plugins(&testBackend{}), GRPCServer: goplugin.DefaultGRPCServer,
	})
	if deaf {
		select {}
	}
	<-terms
	fmt.Fprintln(stderr, "told to go by SIGTERM")
	os.Exit(0)
}

// testBackend does to itself what the test's config or call asks for.
type testBackend struct {
	backendv1.UnimplementedBackendServiceServer
	env    serve.Env
	config testConfig
}

type testConfig struct {
	Refuse  string
	Crash   bool
	Warning string
	Say     string
}

func (b *testBackend) Describe(context.Context, *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	answer := &backendv1.DescribeResponse{Name: "test", Version: "1.0", Protocol: 1}
	if os.Getenv("PLUGIN_TEST_PROTOCOL") == "2" {
		answer.Protocol = 2
	}
	return answer, nil
}

func (b *testBackend) Configure(_ context.Context, req *backendv1.ConfigureRequest) (*backendv1.ConfigureResponse, error) {
	var config testConfig
	if err := json.Unmarshal(req.GetConfig(), &config); err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, "configure", "%v", err)
	}
	switch {
	case config.Refuse != "":
		return nil, rterr.New(rterr.ConfigInvalid, "configure", "refused").WithField(config.Refuse)
	case config.Crash:
		panicAside("crashed by the config")
	case config.Say != "":
		fmt.Println(config.Say, req.GetCredentials()["token"])
	}
	b.config = config
	answer := &backendv1.ConfigureResponse{Capabilities: &backendv1.Capabilities{Pause: true}}
	if config.Warning != "" {
		answer.Warnings = []string{config.Warning}
	}
	return answer, nil
}

// panicAside panics where no interceptor can recover it.
func panicAside(text string) {
	go panic(text)
	select {}
}

// VSCodeURL tells about the process: its pid, working folder, environment, config.
func (b *testBackend) VSCodeURL(_ context.Context, req *backendv1.VSCodeURLRequest) (*backendv1.VSCodeURLResponse, error) {
	switch req.GetFolder() {
	case "env":
		return &backendv1.VSCodeURLResponse{Url: strings.Join(os.Environ(), "\n")}, nil
	case "warning":
		return &backendv1.VSCodeURLResponse{Url: b.config.Warning}, nil
	case "files":
		var limit syscall.Rlimit
		err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
		return &backendv1.VSCodeURLResponse{Url: fmt.Sprint(limit.Max)}, err
	case "print":
		fmt.Println("printed through go-plugin")
		return &backendv1.VSCodeURLResponse{}, nil
	default:
		return &backendv1.VSCodeURLResponse{Url: fmt.Sprint(os.Getpid())}, nil
	}
}

// Close dies in the middle of the call; the token says how.
func (b *testBackend) Close(ctx context.Context, req *backendv1.CloseRequest) (*backendv1.CloseResponse, error) {
	switch req.GetAgentCredential() {
	case "exit":
		os.Exit(3)
	case "panic":
		panicAside("boom aside")
	case "orphan":
		orphan()
	case "wait":
		fmt.Fprintln(os.Stderr, "waiting")
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, rterr.New(rterr.SandboxGone, "close", "as asked").WithRan(rterr.RanNo)
}

// orphan leaves a process of another session that holds the pipes, and one of the same group, and dies.
func orphan() {
	for _, own := range []bool{true, false} {
		cmd := exec.Command("sleep", "1000")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: own}
		if err := cmd.Start(); err != nil {
			panicAside(err.Error())
		}
		fmt.Fprintf(os.Stderr, "left %v %d\n", own, cmd.Process.Pid)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// Execute sends one event, then dies or waits.
func (b *testBackend) Execute(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	err := out.Send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	if err != nil || req.GetAttachOnly() {
		return err
	}
	<-out.Context().Done()
	return out.Context().Err()
}
