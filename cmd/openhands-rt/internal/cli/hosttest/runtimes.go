package hosttest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// The backends that behave: one that has no quota left, and one whose runtimes never get ready.
const (
	BackendFull  = "full"
	BackendStuck = "stuck"
)

// Created is when every runtime was made.
func Created() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// box is a runtime.
type box struct {
	dir   string
	files *files.Service
	rt    *runtimev1.Runtime
}

func (h *Host) add(id string, req *runtimev1.CreateRuntimeRequest) *box {
	dir := filepath.Join(h.t.TempDir(), "workspace")
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	service, err := files.New(files.Config{Workspace: dir})
	if err != nil {
		h.t.Fatal(err)
	}
	backend := req.GetBackend()
	if backend == "" {
		backend = "local"
	}
	b := &box{dir: dir, files: service, rt: &runtimev1.Runtime{
		Id: id, Sid: req.GetSid(), Backend: backend, Status: backendv1.RuntimeStatus_RUNTIME_STATUS_READY,
		Phase: backendv1.Phase_PHASE_RUNNING, Generation: 1, SandboxId: "sb-" + id, Labels: req.GetSpec().GetLabels(),
		CreatedAt: timestamppb.New(Created()), UpdatedAt: timestamppb.New(Created()), Workspace: "/workspace",
		Url: "http://sandbox.test/" + id, SessionKey: "secret-session-key",
	}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runtimes[id] = b
	h.order = append(h.order, id)
	close(h.added)
	h.added = make(chan struct{})
	return b
}

func (h *Host) find(id, sid string) (*box, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.runtimes {
		if b.rt.GetId() == id || (sid != "" && b.rt.GetSid() == sid) {
			return b, nil
		}
	}
	return nil, rthttp.ToConnect(rterr.New(rterr.NotFound, "", "no runtime %q%q", id, sid))
}

// snapshot is a copy of a runtime's state, changed by change.
func (h *Host) snapshot(b *box, change func(*runtimev1.Runtime)) *runtimev1.Runtime {
	h.mu.Lock()
	defer h.mu.Unlock()
	if change != nil {
		change(b.rt)
	}
	return proto.Clone(b.rt).(*runtimev1.Runtime)
}

type runtimes struct {
	runtimev1connect.UnimplementedRuntimeServiceHandler
	h *Host
}

func (s runtimes) CreateRuntime(_ context.Context, req *connect.Request[runtimev1.CreateRuntimeRequest]) (*connect.Response[runtimev1.CreateRuntimeResponse], error) {
	if req.Msg.GetBackend() == BackendFull {
		return nil, rthttp.ToConnect(rterr.New(rterr.QuotaExceeded, "connect runtime", "the account has 10 of 10 devboxes").
			With("request_id", "req-7").With("provider", "runloop"))
	}
	if b, err := s.h.find("", req.Msg.GetSid()); err == nil && req.Msg.GetSid() != "" {
		if !req.Msg.GetAttachToExisting() {
			return nil, rthttp.ToConnect(rterr.New(rterr.AlreadyExists, "create runtime", "session %s has a live runtime", req.Msg.GetSid()))
		}
		return connect.NewResponse(&runtimev1.CreateRuntimeResponse{Runtime: s.h.snapshot(b, nil), Attached: true}), nil
	}
	s.h.mu.Lock()
	id := fmt.Sprintf("r-new-%d", len(s.h.order)+1)
	s.h.mu.Unlock()
	b := s.h.add(id, req.Msg)
	rt := s.h.snapshot(b, func(rt *runtimev1.Runtime) { rt.Status = backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME })
	return connect.NewResponse(&runtimev1.CreateRuntimeResponse{Runtime: rt}), nil
}

func (s runtimes) GetRuntime(_ context.Context, req *connect.Request[runtimev1.GetRuntimeRequest]) (*connect.Response[runtimev1.GetRuntimeResponse], error) {
	b, err := s.h.find(req.Msg.GetRuntimeId(), req.Msg.GetSid())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&runtimev1.GetRuntimeResponse{Runtime: s.h.snapshot(b, nil)}), nil
}

func (s runtimes) ListRuntimes(_ context.Context, req *connect.Request[runtimev1.ListRuntimesRequest]) (*connect.Response[runtimev1.ListRuntimesResponse], error) {
	resp := &runtimev1.ListRuntimesResponse{}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	for i := len(s.h.order) - 1; i >= 0; i-- { // newest first, one to a page
		id := s.h.order[i]
		if req.Msg.GetPageToken() != "" && id >= req.Msg.GetPageToken() {
			continue
		}
		if len(resp.Runtimes) == 1 {
			resp.NextPageToken = resp.Runtimes[0].GetId()
			break
		}
		resp.Runtimes = append(resp.Runtimes, proto.Clone(s.h.runtimes[id].rt).(*runtimev1.Runtime))
	}
	return connect.NewResponse(resp), nil
}

func (s runtimes) WatchRuntime(ctx context.Context, req *connect.Request[runtimev1.WatchRuntimeRequest], stream *connect.ServerStream[runtimev1.WatchRuntimeResponse]) error {
	b, err := s.h.find(req.Msg.GetRuntimeId(), "")
	if err != nil {
		return err
	}
	before := s.h.snapshot(b, nil)
	if err := stream.Send(&runtimev1.WatchRuntimeResponse{Runtime: before}); err != nil {
		return err
	}
	if before.GetBackend() == BackendStuck {
		<-ctx.Done()
		return ctx.Err()
	}
	now := s.h.snapshot(b, func(rt *runtimev1.Runtime) { rt.Status = backendv1.RuntimeStatus_RUNTIME_STATUS_READY })
	return stream.Send(&runtimev1.WatchRuntimeResponse{Runtime: now, Event: &runtimev1.RuntimeEvent{
		Sequence: 2, At: now.GetUpdatedAt(), RuntimeId: now.GetId(), Generation: 1,
		Event: &runtimev1.RuntimeEvent_Status{Status: &runtimev1.StatusChanged{From: before.GetStatus(), To: now.GetStatus()}},
	}})
}

func (s runtimes) PauseRuntime(_ context.Context, req *connect.Request[runtimev1.PauseRuntimeRequest]) (*connect.Response[runtimev1.PauseRuntimeResponse], error) {
	b, err := s.h.find(req.Msg.GetRuntimeId(), "")
	if err != nil {
		return nil, err
	}
	rt := s.h.snapshot(b, func(rt *runtimev1.Runtime) { rt.Phase = backendv1.Phase_PHASE_PAUSED })
	return connect.NewResponse(&runtimev1.PauseRuntimeResponse{Runtime: rt}), nil
}

func (s runtimes) StopRuntime(_ context.Context, req *connect.Request[runtimev1.StopRuntimeRequest]) (*connect.Response[runtimev1.StopRuntimeResponse], error) {
	b, err := s.h.find(req.Msg.GetRuntimeId(), "")
	if err != nil {
		return nil, err
	}
	rt := s.h.snapshot(b, func(rt *runtimev1.Runtime) {
		rt.Status, rt.Phase = backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED, backendv1.Phase_PHASE_GONE
		s.h.stopped = append(s.h.stopped, rt.GetId())
	})
	return connect.NewResponse(&runtimev1.StopRuntimeResponse{Runtime: rt}), nil
}

func (s runtimes) GetEndpoint(_ context.Context, req *connect.Request[runtimev1.GetEndpointRequest]) (*connect.Response[runtimev1.GetEndpointResponse], error) {
	return connect.NewResponse(&runtimev1.GetEndpointResponse{
		Url: fmt.Sprintf("http://sandbox.test/%s/ports/%d", req.Msg.GetRuntimeId(), req.Msg.GetPort()),
	}), nil
}

func (s runtimes) ListBackends(context.Context, *connect.Request[runtimev1.ListBackendsRequest]) (*connect.Response[runtimev1.ListBackendsResponse], error) {
	return connect.NewResponse(&runtimev1.ListBackendsResponse{Backends: []*runtimev1.Backend{
		{Name: "local", Plugin: "local", Version: "1.0", State: runtimev1.PluginState_PLUGIN_STATE_RUNNING, IsDefault: true, Pid: 42,
			Capabilities: &backendv1.Capabilities{Pause: true, WholeTree: true, Isolation: "process"},
			Warnings:     []string{"no memory limit here"}, Runtimes: 2, Source: "command: openhands-rt-plugin-local"},
		{Name: "cloud", Plugin: "runloop", Version: "0.2", State: runtimev1.PluginState_PLUGIN_STATE_QUARANTINED, Restarts: 5,
			LastError: "exit status 1", LastLines: []string{"panic: no\x1b[31m key", "goroutine 1"}, Source: "command: openhands-rt-plugin-runloop"},
	}}), nil
}

func (s runtimes) ListEvents(_ context.Context, req *connect.Request[runtimev1.ListEventsRequest]) (*connect.Response[runtimev1.ListEventsResponse], error) {
	code := int32(3)
	resp := &runtimev1.ListEventsResponse{}
	for i, ev := range []*runtimev1.RuntimeEvent{
		{Event: &runtimev1.RuntimeEvent_Status{Status: &runtimev1.StatusChanged{
			From: backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED, To: backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME, Message: "connect"}}},
		{Event: &runtimev1.RuntimeEvent_Action{Action: &runtimev1.ActionChanged{ActionId: "a-1", Kind: "process",
			State: agentv1.ActionState_ACTION_STATE_DONE, Outcome: agentv1.Outcome_OUTCOME_COMPLETED, ExitCode: &code, Summary: "make"}}},
		{Event: &runtimev1.RuntimeEvent_Missed{Missed: 7}},
		{Event: &runtimev1.RuntimeEvent_Adopted{Adopted: &runtimev1.Adopted{Adoption: runtimev1.Adoption_ADOPTION_ADOPTED}}},
	} {
		ev.Sequence, ev.At, ev.RuntimeId, ev.Generation = uint64(i+1), timestamppb.New(Created()), "r-1", 1
		if ev.GetSequence() > req.Msg.GetAfterSequence() {
			resp.Events = append(resp.Events, ev)
		}
	}
	return connect.NewResponse(resp), nil
}

// WatchEvents ends after the last event.
func (s runtimes) WatchEvents(ctx context.Context, req *connect.Request[runtimev1.WatchEventsRequest], stream *connect.ServerStream[runtimev1.WatchEventsResponse]) error {
	list, err := s.ListEvents(ctx, connect.NewRequest(&runtimev1.ListEventsRequest{AfterSequence: req.Msg.GetAfterSequence()}))
	if err != nil {
		return err
	}
	for _, ev := range list.Msg.GetEvents() {
		if err := stream.Send(&runtimev1.WatchEventsResponse{Event: ev}); err != nil {
			return err
		}
	}
	return nil
}

func (s runtimes) ListPorts(_ context.Context, req *connect.Request[runtimev1.ListPortsRequest]) (*connect.Response[runtimev1.ListPortsResponse], error) {
	base := "http://sandbox.test/" + req.Msg.GetRuntimeId() + "/ports/"
	return connect.NewResponse(&runtimev1.ListPortsResponse{Ports: []*runtimev1.OpenPort{
		{Port: 22, Url: base + "22"}, {Port: 8080, Url: base + "8080"},
	}}), nil
}

func (h *Host) serveFiles(w http.ResponseWriter, r *http.Request) {
	b, err := h.find(r.PathValue("id"), "")
	if err != nil {
		rthttp.Write(w, rthttp.FromConnect(err))
		return
	}
	b.files.ServeHTTP(w, r)
}

type fileRPC struct {
	runtimev1connect.UnimplementedFileServiceHandler
	h *Host
}

func (s fileRPC) StatFile(_ context.Context, req *connect.Request[runtimev1.StatFileRequest]) (*connect.Response[runtimev1.StatFileResponse], error) {
	b, err := s.h.find(req.Msg.GetRuntimeId(), "")
	if err != nil {
		return nil, err
	}
	resp, err := b.files.StatFile(&agentv1.StatFileRequest{Path: req.Msg.GetPath()})
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	return connect.NewResponse(&runtimev1.StatFileResponse{Info: resp.GetInfo()}), nil
}

func (s fileRPC) MakeDir(_ context.Context, req *connect.Request[runtimev1.MakeDirRequest]) (*connect.Response[runtimev1.MakeDirResponse], error) {
	b, err := s.h.find(req.Msg.GetRuntimeId(), "")
	if err != nil {
		return nil, err
	}
	if _, err := b.files.MakeDir(&agentv1.MakeDirRequest{Path: req.Msg.GetPath()}); err != nil {
		return nil, rthttp.ToConnect(err)
	}
	return connect.NewResponse(&runtimev1.MakeDirResponse{}), nil
}
