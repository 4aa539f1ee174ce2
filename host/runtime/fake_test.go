package runtime

import (
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/recovery"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// world is a provider with its sandboxes, in memory. It outlives managers, as sandboxes outlive hosts.
type world struct {
	backendv1.BackendServiceClient // what is not overridden panics: no test may need it

	mu        sync.Mutex
	sandboxes map[string]*sandboxFake // by sandbox id
	connects  int
	// block, if set, holds a creation up.
	block func(context.Context)
	// failConnect is returned by the next connects, one each.
	failConnect []error
	statuses    []backendv1.RuntimeStatus
}

type sandboxFake struct {
	id, intent string
	phase      backendv1.Phase
	changed    chan struct{}
	agent      *agentFake
}

func newWorld() *world {
	return &world{sandboxes: map[string]*sandboxFake{}, statuses: []backendv1.RuntimeStatus{
		backendv1.RuntimeStatus_RUNTIME_STATUS_STARTING_RUNTIME, backendv1.RuntimeStatus_RUNTIME_STATUS_RUNTIME_STARTED,
		backendv1.RuntimeStatus_RUNTIME_STATUS_READY,
	}}
}

func (w *world) get(id string) *sandboxFake {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sandboxes[id]
}

func (w *world) setPhase(id string, phase backendv1.Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sandboxes[id]
	s.phase = phase
	close(s.changed)
	s.changed = make(chan struct{})
	if phase == backendv1.Phase_PHASE_GONE {
		delete(w.sandboxes, id)
		s.agent.die()
	}
}

// stream is the client side of a server stream whose messages come from next.
type stream[T any] struct {
	grpc.ClientStream
	next func() (*T, error)
}

func (s *stream[T]) Recv() (*T, error) { return s.next() }

func (w *world) Connect(ctx context.Context, req *backendv1.ConnectRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[backendv1.ConnectResponse], error) {
	if w.block != nil && req.GetHandle() == nil {
		w.block(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connects++
	if len(w.failConnect) > 0 {
		err := w.failConnect[0]
		w.failConnect = w.failConnect[1:]
		if err != nil {
			return nil, err
		}
	}
	var s *sandboxFake
	for _, have := range w.sandboxes {
		if have.intent == req.GetIntentId() {
			s = have
		}
	}
	if h := req.GetHandle(); h != nil {
		if s = w.sandboxes[h.GetSandboxId()]; s == nil {
			return nil, rterr.New(rterr.SandboxGone, "", "no sandbox %s", h.GetSandboxId())
		}
	}
	if s == nil {
		s = &sandboxFake{
			id: "sb-" + req.GetIntentId(), intent: req.GetIntentId(), phase: backendv1.Phase_PHASE_RUNNING,
			changed: make(chan struct{}), agent: newAgentFake(),
		}
		w.sandboxes[s.id] = s
	}
	var events []*backendv1.ConnectResponse
	for _, status := range w.statuses {
		events = append(events, &backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Status{
			Status: &backendv1.StatusUpdate{Status: status},
		}})
	}
	events = append(events, &backendv1.ConnectResponse{Event: &backendv1.ConnectResponse_Connected{Connected: &backendv1.Connected{
		Handle: &backendv1.Handle{Schema: 1, SandboxId: s.id}, Workspace: "/workspace",
	}}})
	return &stream[backendv1.ConnectResponse]{next: func() (*backendv1.ConnectResponse, error) {
		if len(events) == 0 {
			return nil, io.EOF
		}
		ev := events[0]
		events = events[1:]
		return ev, nil
	}}, nil
}

func (w *world) WatchStatus(ctx context.Context, req *backendv1.WatchStatusRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[backendv1.WatchStatusResponse], error) {
	s := w.get(req.GetHandle().GetSandboxId())
	if s == nil {
		return nil, rterr.New(rterr.SandboxGone, "", "gone")
	}
	first, over := true, false
	w.mu.Lock()
	changed := s.changed
	w.mu.Unlock()
	return &stream[backendv1.WatchStatusResponse]{next: func() (*backendv1.WatchStatusResponse, error) {
		if over {
			return nil, io.EOF
		}
		if !first {
			select {
			case <-changed:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		first, changed = false, s.changed
		over = s.phase == backendv1.Phase_PHASE_GONE
		return &backendv1.WatchStatusResponse{Phase: s.phase}, nil
	}}, nil
}

func (w *world) Endpoint(_ context.Context, req *backendv1.EndpointRequest, _ ...grpc.CallOption) (*backendv1.EndpointResponse, error) {
	return &backendv1.EndpointResponse{Address: req.GetHandle().GetSandboxId()}, nil
}

func (w *world) Pause(_ context.Context, req *backendv1.PauseRequest, _ ...grpc.CallOption) (*backendv1.PauseResponse, error) {
	w.setPhase(req.GetHandle().GetSandboxId(), backendv1.Phase_PHASE_PAUSED)
	return &backendv1.PauseResponse{}, nil
}

func (w *world) Resume(_ context.Context, req *backendv1.ResumeRequest, _ ...grpc.CallOption) (*backendv1.ResumeResponse, error) {
	w.setPhase(req.GetHandle().GetSandboxId(), backendv1.Phase_PHASE_RUNNING)
	return &backendv1.ResumeResponse{Handle: req.GetHandle()}, nil
}

func (w *world) Close(_ context.Context, req *backendv1.CloseRequest, _ ...grpc.CallOption) (*backendv1.CloseResponse, error) {
	id := req.GetHandle().GetSandboxId()
	if req.GetMode() == backendv1.CloseMode_CLOSE_MODE_DELETE && w.get(id) != nil {
		w.setPhase(id, backendv1.Phase_PHASE_GONE)
	}
	return &backendv1.CloseResponse{}, nil
}

func (w *world) List(_ context.Context, req *backendv1.ListRequest, _ ...grpc.CallOption) (*backendv1.ListResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := &backendv1.ListResponse{}
	for _, s := range w.sandboxes {
		if req.GetIntentId() == "" || req.GetIntentId() == s.intent {
			out.Sandboxes = append(out.Sandboxes, &backendv1.ListedSandbox{Handle: &backendv1.Handle{SandboxId: s.id}})
		}
	}
	return out, nil
}

func (w *world) Renew(_ context.Context, req *backendv1.RenewRequest, _ ...grpc.CallOption) (*backendv1.RenewResponse, error) {
	if w.get(req.GetHandle().GetSandboxId()) == nil {
		return nil, rterr.New(rterr.SandboxGone, "", "gone")
	}
	return &backendv1.RenewResponse{LeaseUntil: timestamppb.New(time.Now().Add(req.GetLease().AsDuration()))}, nil
}

// agentFake runs actions whose output and end the test decides.
type agentFake struct {
	mu      sync.Mutex
	runs    map[string]*runFake
	ran     []string
	dead    bool
	changed chan struct{}
	// cut makes every open stream fail once.
	cuts int
}

type runFake struct {
	output []byte
	obs    *agentv1.Observation
}

func newAgentFake() *agentFake {
	return &agentFake{runs: map[string]*runFake{}, changed: make(chan struct{})}
}

func (a *agentFake) wakeLocked() { close(a.changed); a.changed = make(chan struct{}) }

func (a *agentFake) die() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead = true
	a.wakeLocked()
}

func (a *agentFake) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cuts++
	a.wakeLocked()
}

func (a *agentFake) write(id, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs[id].output = append(a.runs[id].output, text...)
	a.wakeLocked()
}

func (a *agentFake) end(id string, code int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs[id].obs = &agentv1.Observation{
		ActionId: id, Outcome: agentv1.Outcome_OUTCOME_COMPLETED, ExitCode: &code, FinishedAt: timestamppb.Now(),
		Channels: []*agentv1.ChannelEnd{{Channel: agentv1.Channel_CHANNEL_STDOUT, Length: uint64(len(a.runs[id].output))}},
	}
	a.wakeLocked()
}

func (a *agentFake) started() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.ran)
}

func (a *agentFake) Execute(ctx context.Context, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	a.mu.Lock()
	id := req.GetAction().GetId()
	if _, known := a.runs[id]; !known && !a.dead {
		a.runs[id] = &runFake{}
		a.ran = append(a.ran, id)
	}
	a.mu.Unlock()
	return a.Attach(ctx, &agentv1.AttachRequest{ActionId: id, Output: req.GetOutput(), From: req.GetFrom()})
}

func (a *agentFake) Attach(ctx context.Context, req *agentv1.AttachRequest) (agent.Stream, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dead {
		return nil, rterr.New(rterr.Network, "", "connection refused")
	}
	if a.runs[req.GetActionId()] == nil {
		return nil, rterr.New(rterr.NotFound, "", "no action").WithRan(rterr.RanNo)
	}
	return &agentStream{
		agent: a, ctx: ctx, id: req.GetActionId(), cuts: a.cuts, cur: newCursor(req.GetFrom()),
		quiet: req.GetOutput() == agentv1.OutputMode_OUTPUT_MODE_NONE,
	}, nil
}

func (a *agentFake) Interrupt(_ context.Context, req *agentv1.InterruptRequest) (*agentv1.InterruptResponse, error) {
	a.end(req.GetActionId(), 130)
	return &agentv1.InterruptResponse{Signalled: true}, nil
}

func (a *agentFake) Close() error { return nil }

// agentStream is a reader of a fake run.
type agentStream struct {
	agent    *agentFake
	ctx      context.Context
	id       string
	cuts     int
	cur      *cursor
	quiet    bool
	recorded bool
	done     bool
}

func (s *agentStream) Recv() (*agentv1.ActionEvent, error) {
	for {
		ev, changed, err := s.step()
		if ev != nil || err != nil {
			return ev, err
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
}

func (s *agentStream) step() (*agentv1.ActionEvent, <-chan struct{}, error) {
	s.agent.mu.Lock()
	defer s.agent.mu.Unlock()
	run := s.agent.runs[s.id]
	from := s.cur.next[agentv1.Channel_CHANNEL_STDOUT]
	switch {
	case s.agent.dead || s.agent.cuts > s.cuts:
		return nil, nil, rterr.New(rterr.Network, "", "cut")
	case s.done:
		return nil, nil, io.EOF
	case !s.recorded:
		s.recorded = true
		return recordEvent(&agentv1.ActionRecord{Id: s.id, State: agentv1.ActionState_ACTION_STATE_RUNNING}), nil, nil
	case !s.quiet && from < uint64(len(run.output)):
		ev := &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Output{Output: &agentv1.Output{
			Channel: agentv1.Channel_CHANNEL_STDOUT, Offset: from, Data: run.output[from : from+1],
		}}}
		s.cur.advance(ev)
		return ev, nil, nil
	case run.obs != nil:
		s.done = true
		return observationEvent(run.obs), nil, nil
	}
	return nil, s.agent.changed, nil
}

func (s *agentStream) Close() error { return nil }

// memory is a registry and journal that outlives managers, as the store does.
type memory struct {
	memoryLog
	mu      sync.Mutex
	records map[string]Record
	sids    map[string]string
	actions map[actionKey]ActionEntry
}

func newMemory() *memory {
	return &memory{records: map[string]Record{}, sids: map[string]string{}, actions: map[actionKey]ActionEntry{}}
}

func (m *memory) Save(_ context.Context, rec Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[rec.Runtime.GetId()] = rec.clone()
	return nil
}

func (m *memory) Load(context.Context) ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Record
	for _, rec := range m.records {
		out = append(out, rec.clone())
	}
	return out, nil
}

func (m *memory) Stopped(ctx context.Context, principal string) ([]Record, error) {
	all, err := m.Load(ctx)
	return slices.DeleteFunc(all, func(rec Record) bool {
		return rec.Principal != principal || lifecycle.Status(rec.Runtime.GetStatus()) != lifecycle.Stopped
	}), err
}

func (m *memory) ClaimSid(_ context.Context, principal, sid, id string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := principal + "/" + sid
	if m.sids[key] == "" {
		m.sids[key] = id
	}
	return m.sids[key], nil
}

func (m *memory) ReleaseSid(_ context.Context, principal, sid, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sids[principal+"/"+sid] == id {
		delete(m.sids, principal+"/"+sid)
	}
	return nil
}

func (m *memory) Put(e ActionEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.Record = cloneRecord(e.Record)
	m.actions[actionKey{e.Runtime, e.Record.GetId()}] = e
}

func (m *memory) Drop(runtimeID, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.actions, actionKey{runtimeID, id})
}

func (m *memory) Get(_ context.Context, runtimeID, id string) (ActionEntry, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.actions[actionKey{runtimeID, id}]
	return e, ok, nil
}

func (m *memory) Find(ctx context.Context, principal, id string) ([]ActionEntry, error) {
	all, err := m.List(ctx, principal, "", false, 0)
	return slices.DeleteFunc(all, func(e ActionEntry) bool { return e.Record.GetId() != id }), err
}

func (m *memory) List(_ context.Context, principal, runtimeID string, active bool, _ int) ([]ActionEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ActionEntry
	for _, e := range m.actions {
		done := e.Record.GetState() == agentv1.ActionState_ACTION_STATE_DONE
		if e.Principal == principal && (runtimeID == "" || e.Runtime == runtimeID) && !(active && done) {
			out = append(out, e)
		}
	}
	return out, nil
}

type backendsFake struct{ w *world }

func (b backendsFake) Default() string                { return "fake" }
func (b backendsFake) Fallback(string) (string, bool) { return "", false }
func (b backendsFake) Client(context.Context, string) (backendv1.BackendServiceClient, error) {
	return b.w, nil
}
func (b backendsFake) List() []*runtimev1.Backend { return []*runtimev1.Backend{{Name: "fake"}} }

// noAnswers leaves every action to its sandbox.
type noAnswers struct{}

func (noAnswers) Takes(*agentv1.Action) bool                             { return false }
func (noAnswers) Answer(string, string, *agentv1.Action) ([]byte, error) { return nil, nil }

type noMetrics struct{}

func (noMetrics) ActionDone(string, string, agentv1.Outcome, time.Duration) {}
func (noMetrics) RuntimeReady(string, time.Duration)                        {}

// start returns a manager over a world and a memory, restored, as a host that has just begun. It is closed with the test.
func start(t *testing.T, w *world, m *memory, change ...func(*Options)) *Manager {
	t.Helper()
	o := Options{
		Registry: m, Journal: m, Events: &m.memoryLog, Backends: backendsFake{w},
		Recover: recovery.New(policy.Default(), recovery.Hooks{}),
		Dial: func(e *backendv1.EndpointResponse, _ string) (Executor, error) {
			if s := w.get(e.GetAddress()); s != nil {
				return s.agent, nil
			}
			return nil, rterr.New(rterr.SandboxGone, "", "gone")
		},
		Metrics: noMetrics{}, Logger: hclog.NewNullLogger(), Waits: DefaultWaits(), Lease: time.Minute,
		Limits: Limits{Runtimes: 10, Lag: 100, Subscribers: 10, Transfers: 2, Actions: ActionLimits{
			Queue: 10, Processes: 4, ProcessQueue: 10, RelayBytes: 1 << 10,
		}},
		SandboxURL: func(id string) string { return "http://sandboxes/" + id },
	}
	for _, c := range change {
		c(&o)
	}
	if o.Answers == nil {
		o.Answers = noAnswers{}
	}
	manager := New(o)
	if err := manager.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	return manager
}

func as(t *testing.T, id string) context.Context {
	return WithPrincipal(t.Context(), Principal{ID: id})
}
