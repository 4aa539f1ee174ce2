// Package backend makes sandboxes that are an agent process in a folder each.
package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	sdkbackend "github.com/openhands-rt/openhands-rt/sdk/backend"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// schema is what an operator may configure: nothing but a greeting, to have a key.
const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {"greeting": {"type": "string", "description": "Shown as the message of the first status."}}
}`

// Backend implements backend.v1; its zero value is ready. What it leaves out is UNIMPLEMENTED, and not claimed.
type Backend struct {
	backendv1.UnimplementedBackendServiceServer

	mu  sync.Mutex
	set *settings // nil until Configure has succeeded

	making sync.Mutex // one creation at a time, so that an intent has one sandbox
}

// settings are one Configure's; never changed, only replaced.
type settings struct {
	greeting, owner, backend, dir string
}

func capabilities() *backendv1.Capabilities {
	return &backendv1.Capabilities{
		AgentEndpoint: true, OnceOnly: true, WholeTree: true, Interactive: true, Isolation: "none",
		Kinds: []string{action.KindProcess, action.KindRun},
	}
}

// Describe says what it can do; serve.Main fills in name, versions, protocol and instance.
func (b *Backend) Describe(context.Context, *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	return &backendv1.DescribeResponse{Capabilities: capabilities(), ConfigSchema: []byte(schema)}, nil
}

// Configure takes all or nothing: what is wrong is found before anything is changed.
func (b *Backend) Configure(_ context.Context, req *backendv1.ConfigureRequest) (*backendv1.ConfigureResponse, error) {
	greeting, err := parse(req.GetConfig())
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set = &settings{greeting: greeting, owner: req.GetOwner(), backend: req.GetBackend(), dir: req.GetStateDir()}
	return &backendv1.ConfigureResponse{Capabilities: capabilities()}, nil
}

func parse(config []byte) (greeting string, err error) {
	invalid := func(field, detail string, args ...any) error {
		return rterr.New(rterr.ConfigInvalid, "configure", detail, args...).WithField(field)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(config, &keys); err != nil || keys == nil {
		return "", invalid("", "is no JSON object")
	}
	for key, value := range keys {
		if key != "greeting" {
			return "", invalid(key, "is not known")
		}
		if err := json.Unmarshal(value, &greeting); err != nil || bytes.Equal(value, []byte("null")) {
			return "", invalid(key, "is no string")
		}
	}
	return greeting, nil
}

// configured returns the settings in force.
func (b *Backend) configured() (*settings, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set == nil {
		return nil, rterr.New(rterr.IllegalState, "", "the backend is not configured")
	}
	return b.set, nil
}

// found returns the sandbox of a handle.
func (b *Backend) found(ctx context.Context, h *backendv1.Handle) (*sandbox, error) {
	set, err := b.configured()
	if err != nil {
		return nil, err
	}
	return set.find(ctx, h)
}

// Connect tells what happens while it happens, and ends with the handle.
func (b *Backend) Connect(req *backendv1.ConnectRequest, out grpc.ServerStreamingServer[backendv1.ConnectResponse]) error {
	set, err := b.configured()
	if err != nil {
		return err
	}
	say := func(status backendv1.RuntimeStatus, message string) error {
		return out.Send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Status{
			Status: &backendv1.StatusUpdate{Status: status, Message: message}}})
	}
	if err := say(backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME, set.greeting); err != nil {
		return err
	}
	sb, attached, err := b.sandboxFor(out.Context(), set, req)
	if err != nil {
		return err
	}
	err = say(backendv1.RuntimeStatus_RUNTIME_STATUS_RUNTIME_STARTED, "")
	if err == nil {
		err = say(backendv1.RuntimeStatus_RUNTIME_STATUS_READY, "")
	}
	if err == nil {
		err = out.Send(&backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Connected{Connected: &backendv1.Connected{
			Handle: sb.handle(), Capabilities: capabilities(), Attached: attached, Workspace: sb.Workspace, Home: sb.Workspace}}})
	}
	if err == nil {
		err = out.Context().Err()
	}
	if err != nil && !attached {
		// Nobody got the handle. The call's context is over, the clean-up is not.
		sb.end(context.WithoutCancel(out.Context()))
	}
	return err
}

// sandboxFor attaches by handle, finds by intent, or makes.
func (b *Backend) sandboxFor(ctx context.Context, set *settings, req *backendv1.ConnectRequest) (sb *sandbox, attached bool, err error) {
	if req.GetHandle() != nil {
		sb, err = set.find(ctx, req.GetHandle())
		return sb, true, err
	}
	b.making.Lock()
	defer b.making.Unlock()
	if made, err := set.list(ctx, set.owner, req.GetIntentId()); err != nil || len(made) > 0 {
		return first(made), true, err
	}
	sb, err = set.create(ctx, req)
	return sb, false, err
}

func first(all []*sandbox) *sandbox {
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// Execute is the SDK's: the same records, events and once-only rule as at the agent itself.
func (b *Backend) Execute(req *backendv1.ExecuteRequest, out grpc.ServerStreamingServer[agentv1.ActionEvent]) error {
	sb, err := b.found(out.Context(), req.GetHandle())
	if err != nil {
		return err
	}
	agent, err := sb.agent(req.GetAgentCredential())
	if err != nil {
		return err
	}
	defer agent.Close()
	return sdkbackend.Execute(out.Context(), agent, req, out)
}

// Interrupt is the SDK's, too.
func (b *Backend) Interrupt(ctx context.Context, req *backendv1.InterruptRequest) (*backendv1.InterruptResponse, error) {
	sb, err := b.found(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	agent, err := sb.agent(req.GetAgentCredential())
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	return sdkbackend.Interrupt(ctx, agent, req)
}

// beat is how often WatchStatus looks and speaks: this provider has no events of its own.
const beat = time.Second

// WatchStatus tells the phase at once, at every beat, and GONE last.
func (b *Backend) WatchStatus(req *backendv1.WatchStatusRequest, out grpc.ServerStreamingServer[backendv1.WatchStatusResponse]) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		phase := backendv1.Phase_PHASE_RUNNING
		_, err := b.found(out.Context(), req.GetHandle())
		switch {
		case rterr.Is(err, rterr.SandboxGone):
			phase = backendv1.Phase_PHASE_GONE
		case err != nil:
			return err
		}
		err = out.Send(&backendv1.WatchStatusResponse{Phase: phase, At: timestamppb.Now()})
		if err != nil || phase == backendv1.Phase_PHASE_GONE {
			return err
		}
		select {
		case <-ticker.C:
		case <-out.Context().Done():
			return out.Context().Err()
		}
	}
}

// Endpoint is the agent's socket; other ports are not claimed.
func (b *Backend) Endpoint(ctx context.Context, req *backendv1.EndpointRequest) (*backendv1.EndpointResponse, error) {
	sb, err := b.found(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	if req.GetPort() != 0 {
		return nil, rterr.New(rterr.Unsupported, "endpoint", "ports are not forwarded")
	}
	return &backendv1.EndpointResponse{Address: sb.address()}, nil
}

// Close returns when nothing is left, and does not mind that nothing was there.
func (b *Backend) Close(ctx context.Context, req *backendv1.CloseRequest) (*backendv1.CloseResponse, error) {
	sb, err := b.found(ctx, req.GetHandle())
	switch {
	case rterr.Is(err, rterr.SandboxGone):
		return &backendv1.CloseResponse{}, b.forget(req.GetHandle())
	case err != nil:
		return nil, err
	case req.GetMode() == backendv1.CloseMode_CLOSE_MODE_DELETE:
		sb.end(ctx)
	}
	return &backendv1.CloseResponse{}, nil
}

// forget removes what a sandbox that ended by itself has left on disk.
func (b *Backend) forget(h *backendv1.Handle) error {
	set, err := b.configured()
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(set.dir, h.GetSandboxId()))
}

// List pages by sandbox id.
func (b *Backend) List(ctx context.Context, req *backendv1.ListRequest) (*backendv1.ListResponse, error) {
	set, err := b.configured()
	if err != nil {
		return nil, err
	}
	owner := req.GetOwner()
	if owner == "" {
		owner = set.owner
	}
	all, err := set.list(ctx, owner, req.GetIntentId())
	if err != nil {
		return nil, err
	}
	page := &backendv1.ListResponse{}
	for _, sb := range all {
		if sb.ID <= req.GetPageToken() {
			continue
		}
		if n := len(page.Sandboxes); req.GetPageSize() > 0 && n == int(req.GetPageSize()) {
			page.NextPageToken = page.Sandboxes[n-1].GetHandle().GetSandboxId()
			break
		}
		page.Sandboxes = append(page.Sandboxes, sb.listed())
	}
	return page, nil
}

// Renew is the agent's business: it ends itself when its lease does.
func (b *Backend) Renew(ctx context.Context, req *backendv1.RenewRequest) (*backendv1.RenewResponse, error) {
	sb, err := b.found(ctx, req.GetHandle())
	if err != nil {
		return nil, err
	}
	agent, err := sb.agent(req.GetAgentCredential())
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	answer, err := agent.RenewLease(ctx, &agentv1.RenewLeaseRequest{Lease: req.GetLease()})
	return &backendv1.RenewResponse{LeaseUntil: answer.GetLeaseUntil()}, err
}
