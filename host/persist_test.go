package host

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/host/store"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// fullRecord has every field set that is stored.
func fullRecord() runtime.Record {
	at := timestamppb.New(time.Date(2026, 11, 1, 10, 0, 0, 123000, time.UTC))
	return runtime.Record{
		Principal: "p", IntentID: "i-1", Credential: "secret", Lease: time.Minute, Keep: true,
		Runtime: &runtimev1.Runtime{
			Id: "r1abc", Sid: "my session ✓", Backend: "local", Status: backendv1.RuntimeStatus_RUNTIME_STATUS_READY,
			Phase: backendv1.Phase_PHASE_RUNNING, Generation: 3, SandboxId: "sb-1", CreatedAt: at, UpdatedAt: at, LeaseUntil: at,
			SessionKey: "key", Workspace: "/workspace", Username: "u", Home: "/home/u", Message: "m",
			Error:        &agentv1.ErrorDetail{Reason: agentv1.Reason_REASON_NETWORK, Message: "x"},
			Labels:       map[string]string{"a": "b"},
			Capabilities: &backendv1.Capabilities{Pause: true, Isolation: "process"},
		},
		Spec:   &backendv1.SandboxSpec{Env: map[string]string{"K": "V"}, Limits: &backendv1.Limits{Pids: 5}},
		Handle: &backendv1.Handle{Schema: 1, Backend: "local", SandboxId: "sb-1", Opaque: []byte{0, 255}},
	}
}

func TestARecordComesBackWholeFromTheStore(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	g := newRegistry(s)
	want := fullRecord()
	for range 3 { // each save is of the record as it is then
		if err := g.Save(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	s = openStore(t, dir)
	defer closeStore(t, s)
	g = newRegistry(s)
	got, err := g.Load(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if diff := cmp.Diff(want, got[0], protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if err := g.Save(t.Context(), got[0]); err != nil {
		t.Errorf("a loaded record cannot be saved: %v", err)
	}
}

func TestTheJournalKnowsListsAndForgets(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	j := &journal{actions: s.Actions, log: hclog.NewNullLogger()}
	at, code := timestamppb.New(time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)), int32(3)
	done := runtime.ActionEntry{Runtime: "r1", Generation: 2, Principal: "p", Answered: true, Record: &agentv1.ActionRecord{
		Id: "a", Kind: "process", Digest: "sha256:1", State: agentv1.ActionState_ACTION_STATE_DONE, Summary: "x", Pid: 7,
		CreatedAt: at, StartedAt: at, FinishedAt: at, Timeout: durationpb.New(time.Second),
		Observation: &agentv1.Observation{
			ActionId: "a", Outcome: agentv1.Outcome_OUTCOME_COMPLETED, ExitCode: &code, FinishedAt: at, Payload: []byte(`{"x":1}`),
		},
	}}
	running := runtime.ActionEntry{Runtime: "r1", Generation: 2, Principal: "p", Record: &agentv1.ActionRecord{
		Id: "b", State: agentv1.ActionState_ACTION_STATE_RUNNING, CreatedAt: timestamppb.New(at.AsTime().Add(time.Second)),
	}}
	j.Put(done)
	j.Put(running)
	j.Put(runtime.ActionEntry{Runtime: "r1", Principal: "p", Record: &agentv1.ActionRecord{Id: "c", State: agentv1.ActionState_ACTION_STATE_QUEUED, CreatedAt: at}})
	j.Drop("r1", "c")
	for _, reopened := range []bool{false, true} {
		if reopened {
			closeStore(t, s)
			s = openStore(t, dir)
			defer closeStore(t, s)
			j = &journal{actions: s.Actions, log: hclog.NewNullLogger()}
		}
		got, ok, err := j.Get(t.Context(), "r1", "a")
		if !ok || err != nil {
			t.Fatalf("reopened %v: %v, %v", reopened, ok, err)
		}
		if diff := cmp.Diff(done, got, protocmp.Transform()); diff != "" {
			t.Errorf("reopened %v: %s", reopened, diff)
		}
		if _, ok, err := j.Get(t.Context(), "r1", "c"); ok || err != nil {
			t.Errorf("reopened %v: a forgotten action is known (%v)", reopened, err)
		}
		all, err := j.List(t.Context(), "p", "r1", false, 0)
		if err != nil || len(all) != 2 || all[0].Record.GetId() != "b" {
			t.Errorf("reopened %v: %v, %v, want b and a", reopened, all, err)
		}
		if active, err := j.List(t.Context(), "p", "", true, 0); err != nil || len(active) != 1 {
			t.Errorf("reopened %v: active %v, %v", reopened, active, err)
		}
		if none, err := j.List(t.Context(), "q", "", false, 0); err != nil || len(none) != 0 {
			t.Errorf("reopened %v: somebody else sees %v, %v", reopened, none, err)
		}
	}
}

func TestEventsComeBackInOrderAndTheirNumbersGoOn(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	l := newEventLog(s.Events, hclog.NewNullLogger())
	for i := range uint64(5) {
		l.Append(&runtimev1.RuntimeEvent{Sequence: 10 + i, RuntimeId: []string{"r1", "r2"}[i%2]})
	}
	l.close()
	closeStore(t, s)
	s = openStore(t, dir)
	defer closeStore(t, s)
	l = newEventLog(s.Events, hclog.NewNullLogger())
	defer l.close()
	if last, err := l.lastSequence(t.Context()); err != nil || last != 14 {
		t.Errorf("last %d, %v", last, err)
	}
	events, err := l.ListEvents(t.Context(), "r1", 10, 10)
	if err != nil || len(events) != 2 || events[0].GetSequence() != 12 || events[1].GetSequence() != 14 {
		t.Errorf("%v, %v", events, err)
	}
}

func TestStoppedRecordsAreAPrincipalsOwn(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	g := newRegistry(s)
	for id, c := range map[string]struct {
		principal string
		status    backendv1.RuntimeStatus
	}{
		"r1": {"p", backendv1.RuntimeStatus_RUNTIME_STATUS_READY}, "r2": {"p", backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED},
		"r3": {"q", backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED},
	} {
		rec := fullRecord()
		rec.Principal, rec.Runtime.Id, rec.Runtime.Status = c.principal, id, c.status
		if err := g.Save(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	got, err := g.Stopped(t.Context(), "p")
	if err != nil || len(got) != 1 || got[0].Runtime.GetId() != "r2" {
		t.Errorf("%v, %v", got, err)
	}
}
