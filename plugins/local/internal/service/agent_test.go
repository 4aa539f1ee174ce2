package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/spawn"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/agent/socket"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// The test binary is also the shim and the agent, by its first argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case spawn.EnterRoot:
			sandbox.EnterMain(os.Args[2:])
		case "agent":
			exit(runAgent())
		case "silent": // Ends without a word.
			exit(errors.New("silent on purpose"))
		case "hung": // Never gets ready.
			select {}
		case "plugin":
			exit(runPlugin())
		case "walk":
			exit(runWalk())
		}
	}
	goleak.VerifyTestMain(m)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runAgent is an agent with the real server and tree; its engine runs each payload with sh.
func runAgent() error {
	var spec spawn.Spec
	if err := json.NewDecoder(os.NewFile(3, "spec")).Decode(&spec); err != nil {
		return err
	}
	tree, err := sandbox.NewTree(sandbox.TreeConfig{Cgroup: spec.Cgroup, LimitGroups: spec.LimitGroups})
	if err != nil {
		return err
	}
	lease, err := time.ParseDuration(spec.Lease)
	if err != nil {
		return err
	}
	fs, err := files.New(files.Config{Workspace: spec.Workspace, StateDir: spec.StateDir})
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{
		Engine: &shEngine{tree: tree, spec: spec}, Tree: tree, Credential: spec.Credential, Lease: lease, Files: fs,
		Identity: server.Identity{
			Nonce: spec.Nonce, SandboxID: spec.SandboxID, RuntimeID: spec.RuntimeID, Generation: spec.Generation,
			Workspace: spec.Workspace, Home: spec.Home, Username: spec.Username,
		},
	})
	if err != nil {
		return err
	}
	ln, err := socket.Listen(spec.Socket)
	if err != nil {
		return err
	}
	ready := os.NewFile(uintptr(spec.ReadyFD), "ready")
	if _, err := fmt.Fprintf(ready, "{\"pid\":%d}\n", os.Getpid()); err != nil {
		return err
	}
	ready.Close()
	err = s.Serve(context.Background(), ln)
	fs.Close()
	return errors.Join(err, tree.Close())
}

// shEngine runs the payload of any action as a script and puts its output, as it is, into the observation.
type shEngine struct {
	tree sandbox.Tree
	spec spawn.Spec
}

func (e *shEngine) Kinds() []string { return []string{"process"} }

func (e *shEngine) Execute(_ context.Context, req *agentv1.ExecuteRequest, send func(*agentv1.ActionEvent) error) error {
	cmd := exec.Command("/bin/sh", "-c", string(req.GetAction().GetPayload()))
	cmd.Dir = e.spec.Workspace
	cmd.Env = []string{"HOME=" + e.spec.Home}
	for name, value := range e.spec.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := e.tree.Start(cmd, req.GetAction().GetId()); err != nil {
		return err
	}
	raw := make([]byte, 1<<16)
	n := 0
	for {
		m, err := out.Read(raw[n:])
		n += m
		if err != nil {
			break
		}
	}
	_ = cmd.Wait()
	if err := e.tree.Forget(req.GetAction().GetId()); err != nil {
		return err
	}
	code := int32(cmd.ProcessState.ExitCode())
	if err := send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: &agentv1.ActionRecord{Id: req.GetAction().GetId()}}}); err != nil {
		return err
	}
	return send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{
		Observation: &agentv1.Observation{Payload: raw[:n], ExitCode: &code},
	}})
}

func (e *shEngine) Attach(context.Context, *agentv1.AttachRequest, func(*agentv1.ActionEvent) error) error {
	return rterr.New(rterr.NotFound, "attach", "it keeps no records")
}

func (e *shEngine) Interrupt(_ context.Context, id string, _ agentv1.InterruptLevel) (bool, error) {
	n, err := e.tree.Signal(id, 9)
	return n > 0, err
}

func (e *shEngine) Input(context.Context, *agentv1.InputRequest) (uint64, error) { return 0, nil }
func (e *shEngine) Resize(*agentv1.ResizeRequest) error                          { return nil }
func (e *shEngine) Get(string) (*agentv1.ActionRecord, error)                    { return nil, nil }
func (e *shEngine) List(bool, int) []*agentv1.ActionRecord                       { return nil }
func (e *shEngine) Active() int                                                  { return 0 }
func (e *shEngine) Close(context.Context) error                                  { return nil }

// self is the path of the test binary.
func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return filepath.Clean(path)
}
