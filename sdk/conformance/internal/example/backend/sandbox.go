package backend

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// handleSchema is the version of handles and of what is on disk.
const handleSchema = 1

// endLimit bounds what is done to a sandbox that must go, whoever has stopped waiting for it.
const endLimit = 20 * time.Second

// sandbox is what is on disk of one: everything that another process of this plugin needs to find it.
type sandbox struct {
	ID, Backend, Owner, RuntimeID, SID, IntentID string
	Generation                                   uint64
	Workspace, Nonce, Credential                 string
	CreatedAt                                    time.Time

	dir   string
	lease time.Time
}

func (sb *sandbox) address() string { return "unix://" + filepath.Join(sb.dir, "sock") }

func (sb *sandbox) agent(credential string) (*client.Client, error) {
	return client.New(client.Config{Address: sb.address(), Credential: credential})
}

func (sb *sandbox) handle() *backendv1.Handle {
	return &backendv1.Handle{Schema: handleSchema, Backend: sb.Backend, SandboxId: sb.ID}
}

func (sb *sandbox) listed() *backendv1.ListedSandbox {
	return &backendv1.ListedSandbox{
		Handle: sb.handle(), Phase: backendv1.Phase_PHASE_RUNNING, Owner: sb.Owner, RuntimeId: sb.RuntimeID, Sid: sb.SID,
		IntentId: sb.IntentID, Generation: sb.Generation, CreatedAt: timestamppb.New(sb.CreatedAt), LeaseUntil: timestamppb.New(sb.lease),
	}
}

// create makes a folder, writes down what it is, and only then starts the agent in it: nothing runs that nobody can find.
func (set *settings) create(ctx context.Context, req *backendv1.ConnectRequest) (*sandbox, error) {
	sb := &sandbox{
		ID: strings.ToLower(rand.Text()[:12]), Backend: set.backend, Owner: set.owner, RuntimeID: req.GetRuntimeId(), SID: req.GetSid(),
		IntentID: req.GetIntentId(), Generation: req.GetGeneration(), Nonce: rand.Text(), Credential: req.GetAgentCredential(),
		Workspace: req.GetSpec().GetWorkspace(), CreatedAt: time.Now(), lease: time.Now().Add(req.GetLease().AsDuration()),
	}
	sb.dir = filepath.Join(set.dir, sb.ID)
	if sb.Workspace == "" {
		sb.Workspace = filepath.Join(sb.dir, "workspace")
	}
	err := sb.write()
	if err == nil {
		err = sb.start(ctx, req)
	}
	if err != nil {
		sb.end(context.WithoutCancel(ctx))
		return nil, rterr.Wrap(rterr.Internal, "create sandbox", err)
	}
	return sb, nil
}

func (sb *sandbox) write() error {
	if err := os.MkdirAll(filepath.Join(sb.dir, "workspace"), 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(sb)
	if err != nil {
		return err
	}
	// Another call may read it at this moment: it is there as a whole, or not at all.
	name := filepath.Join(sb.dir, "sandbox.json")
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// start starts the agent outside the plugin's session and returns when it answers.
func (sb *sandbox) start(ctx context.Context, req *backendv1.ConnectRequest) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	config, give, err := os.Pipe()
	if err != nil {
		return err
	}
	defer config.Close()
	defer give.Close()
	hear, ready, err := os.Pipe()
	if err != nil {
		return err
	}
	defer hear.Close()
	defer ready.Close()
	cmd := exec.Command(self, "agent", "--config-fd", "3")
	cmd.ExtraFiles = []*os.File{config, ready}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // reaps it; it outlives this process more often than not
	_ = ready.Close()
	if err := json.NewEncoder(give).Encode(sb.config(req)); err != nil {
		return err
	}
	_ = give.Close()
	// A cancelled Connect does not wait for the agent: end kills it by its lease or its socket.
	defer context.AfterFunc(ctx, func() { _ = hear.Close() })()
	line, err := bufio.NewReader(hear).ReadBytes('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		return errors.Join(ctx.Err(), err)
	}
	_, err = boot.ParseReady(line)
	return err
}

func (sb *sandbox) config(req *backendv1.ConnectRequest) boot.Config {
	env := maps.Clone(req.GetSpec().GetEnv())
	return boot.Config{
		Schema: boot.Schema, Socket: filepath.Join(sb.dir, "sock"), StateDir: filepath.Join(sb.dir, "agent"),
		Workspace: sb.Workspace, Home: sb.Workspace, Username: "user", SandboxID: sb.ID, RuntimeID: sb.RuntimeID,
		Generation: sb.Generation, Nonce: sb.Nonce, Credential: sb.Credential, Env: env,
		Features: req.GetSpec().GetFeatures(),
		Lease:    boot.Duration(req.GetLease().AsDuration()), ReadyFD: 4,
	}
}

// find returns the sandbox of a handle if its agent answers, and is the right one.
func (set *settings) find(ctx context.Context, h *backendv1.Handle) (*sandbox, error) {
	id := h.GetSandboxId()
	switch {
	case id == "":
		return nil, rterr.Invalid("find sandbox", "handle", "is required")
	case h.GetSchema() > handleSchema:
		return nil, rterr.New(rterr.Integrity, "find sandbox", "handle of schema %d, at most %d is known", h.GetSchema(), handleSchema)
	case !filepath.IsLocal(id) || strings.ContainsRune(id, filepath.Separator):
		return nil, rterr.Invalid("find sandbox", "handle.sandbox_id", "is none of ours")
	}
	return set.open(ctx, id)
}

func (set *settings) open(ctx context.Context, id string) (*sandbox, error) {
	gone := rterr.New(rterr.SandboxGone, "find sandbox "+id, "it is no longer there")
	sb := &sandbox{dir: filepath.Join(set.dir, id)}
	text, err := os.ReadFile(filepath.Join(sb.dir, "sandbox.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gone
	}
	if err == nil {
		err = json.Unmarshal(text, sb)
	}
	if err != nil {
		return nil, rterr.Wrap(rterr.Integrity, "find sandbox "+id, err)
	}
	agent, err := sb.agent(sb.Credential)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	info, err := agent.Info(ctx)
	switch {
	case rterr.Is(err, rterr.Network, rterr.Unavailable) && ctx.Err() == nil:
		return nil, gone // the agent is stopping, or the socket's owner is dead: of its own accord, or because its lease ended
	case err != nil:
		return nil, err
	case info.GetNonce() != sb.Nonce:
		return nil, rterr.New(rterr.Integrity, "find sandbox "+id, "another agent answers in its place")
	}
	sb.lease = info.GetLeaseUntil().AsTime()
	return sb, nil
}

// list returns the live sandboxes of an owner, by id; an empty intent means all.
func (set *settings) list(ctx context.Context, owner, intent string) ([]*sandbox, error) {
	entries, err := os.ReadDir(set.dir) // sorted
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "list sandboxes", err)
	}
	var all []*sandbox
	for _, e := range entries {
		sb, err := set.open(ctx, e.Name())
		switch {
		case rterr.Is(err, rterr.SandboxGone):
		case err != nil:
			return nil, err
		case sb.Owner == owner && (intent == "" || sb.IntentID == intent):
			all = append(all, sb)
		}
	}
	return all, nil
}

// end ends the agent with its tree and removes the folder. What cannot be ended now ends with its lease.
func (sb *sandbox) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	if agent, err := sb.agent(sb.Credential); err == nil {
		_, _ = agent.Shutdown(ctx, &agentv1.ShutdownRequest{})
		_ = agent.Close()
	}
	_ = os.RemoveAll(sb.dir)
}
