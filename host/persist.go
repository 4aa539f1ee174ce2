package host

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/host/store"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// registry is runtime.Registry on the store. It keeps the revision of each record that it has written: one host writes a record.
type registry struct {
	store *store.Store

	mu        sync.Mutex
	revisions map[string]uint64
}

var _ runtime.Registry = (*registry)(nil)

func newRegistry(s *store.Store) *registry {
	return &registry{store: s, revisions: map[string]uint64{}}
}

// Save writes a record; the order of calls for one runtime is the caller's.
func (g *registry) Save(ctx context.Context, rec runtime.Record) error {
	row, err := toRow(rec)
	if err != nil {
		return err
	}
	g.mu.Lock()
	revision := g.revisions[row.ID]
	g.mu.Unlock()
	revision, err = g.store.SaveRuntime(ctx, row, revision)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revisions[row.ID] = revision
	return nil
}

// Load returns all records.
func (g *registry) Load(ctx context.Context) ([]runtime.Record, error) {
	entries, err := g.store.Runtimes.All(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]runtime.Record, 0, len(entries))
	for _, e := range entries {
		rec, err := fromRow(e.Value)
		if err != nil {
			return nil, rterr.Wrap(rterr.Integrity, "load runtime "+e.Value.ID, err)
		}
		g.revisions[e.Value.ID] = e.Revision
		out = append(out, rec)
	}
	return out, nil
}

// Stopped returns the records of a principal's stopped runtimes.
func (g *registry) Stopped(ctx context.Context, principal string) ([]runtime.Record, error) {
	entries, err := g.store.Runtimes.All(ctx)
	if err != nil {
		return nil, err
	}
	var out []runtime.Record
	for _, e := range entries {
		if e.Value.Principal != principal || e.Value.Status != lifecycle.Stopped {
			continue
		}
		rec, err := fromRow(e.Value)
		if err != nil {
			return nil, rterr.Wrap(rterr.Integrity, "read runtime "+e.Value.ID, err)
		}
		out = append(out, rec)
	}
	return out, nil
}

// ClaimSid gives a session id to a runtime.
func (g *registry) ClaimSid(ctx context.Context, principal, sid, runtimeID string) (string, error) {
	return g.store.ClaimSID(ctx, principal, sid, runtimeID)
}

// ReleaseSid takes it back.
func (g *registry) ReleaseSid(ctx context.Context, principal, sid, runtimeID string) error {
	return g.store.ReleaseSID(ctx, principal, sid, runtimeID)
}

func toRow(rec runtime.Record) (store.Runtime, error) {
	v := rec.Runtime
	row := store.Runtime{
		ID: v.GetId(), Principal: rec.Principal, SID: v.GetSid(), Backend: v.GetBackend(),
		Status: lifecycle.Status(v.GetStatus()), Phase: int32(v.GetPhase()), Message: v.GetMessage(),
		Generation: v.GetGeneration(), SandboxID: v.GetSandboxId(), IntentID: rec.IntentID,
		AgentCredential: store.Secret(rec.Credential), SessionKey: store.Secret(v.GetSessionKey()),
		Lease: rec.Lease, LeaseUntil: v.GetLeaseUntil().AsTime(), Labels: v.GetLabels(),
		Workspace: v.GetWorkspace(), Home: v.GetHome(), Username: v.GetUsername(), Keep: rec.Keep,
		CreatedAt: v.GetCreatedAt().AsTime(), UpdatedAt: v.GetUpdatedAt().AsTime(),
	}
	if row.Status == lifecycle.Stopped {
		row.StoppedAt = row.UpdatedAt
	}
	var err error
	if rec.Handle != nil {
		if row.Handle, err = proto.Marshal(rec.Handle); err != nil {
			return row, rterr.Wrap(rterr.Internal, "encode handle", err)
		}
	}
	for _, part := range []struct {
		to   *json.RawMessage
		from proto.Message
	}{{&row.Spec, rec.Spec}, {&row.Capabilities, v.GetCapabilities()}, {&row.Error, v.GetError()}} {
		if !part.from.ProtoReflect().IsValid() {
			continue
		}
		if *part.to, err = protojson.Marshal(part.from); err != nil {
			return row, rterr.Wrap(rterr.Internal, "encode runtime", err)
		}
	}
	return row, nil
}

func fromRow(row store.Runtime) (runtime.Record, error) {
	v := &runtimev1.Runtime{
		Id: row.ID, Sid: row.SID, Backend: row.Backend, Status: backendv1.RuntimeStatus(row.Status),
		Phase: backendv1.Phase(row.Phase), Message: row.Message, Generation: row.Generation, SandboxId: row.SandboxID,
		SessionKey: row.SessionKey.Reveal(), LeaseUntil: timestamp(row.LeaseUntil), Labels: row.Labels,
		Workspace: row.Workspace, Home: row.Home, Username: row.Username,
		CreatedAt: timestamp(row.CreatedAt), UpdatedAt: timestamp(row.UpdatedAt),
	}
	rec := runtime.Record{
		Principal: row.Principal, IntentID: row.IntentID, Credential: row.AgentCredential.Reveal(), Lease: row.Lease,
		Keep: row.Keep, Runtime: v, Spec: &backendv1.SandboxSpec{},
	}
	if row.Handle != nil {
		rec.Handle = &backendv1.Handle{}
		if err := proto.Unmarshal(row.Handle, rec.Handle); err != nil {
			return rec, err
		}
	}
	if row.Capabilities != nil {
		v.Capabilities = &backendv1.Capabilities{}
	}
	if row.Error != nil {
		v.Error = &agentv1.ErrorDetail{}
	}
	lenient := protojson.UnmarshalOptions{DiscardUnknown: true}
	for _, part := range []struct {
		from json.RawMessage
		to   proto.Message
	}{{row.Spec, rec.Spec}, {row.Capabilities, v.GetCapabilities()}, {row.Error, v.GetError()}} {
		if part.from == nil {
			continue
		}
		if err := lenient.Unmarshal(part.from, part.to); err != nil {
			return rec, err
		}
	}
	return rec, nil
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() || t.Unix() <= 0 {
		return nil
	}
	return timestamppb.New(t)
}

// journal is runtime.Journal on the store's index of actions.
type journal struct {
	actions *store.Actions
	log     hclog.Logger
}

var _ runtime.Journal = (*journal)(nil)

// putLimit bounds the wait for a full queue of writes behind.
const putLimit = 2 * time.Second

// Put writes behind.
func (j *journal) Put(e runtime.ActionEntry) {
	row := store.Action{
		ID: e.Record.GetId(), RuntimeID: e.Runtime, Generation: e.Generation, Principal: e.Principal,
		Kind: e.Record.GetKind(), Digest: e.Record.GetDigest(), State: int32(e.Record.GetState()), Summary: e.Record.GetSummary(),
		Timeout: e.Record.GetTimeout().AsDuration(), Pid: e.Record.GetPid(), CreatedAt: e.Record.GetCreatedAt().AsTime(),
		Answered: e.Answered,
	}
	if e.Record.GetStartedAt() != nil {
		row.StartedAt = e.Record.GetStartedAt().AsTime()
	}
	if obs := e.Record.GetObservation(); obs != nil {
		row.Outcome, row.ExitCode, row.FinishedAt = int32(obs.GetOutcome()), obs.ExitCode, obs.GetFinishedAt().AsTime()
		raw, err := proto.Marshal(obs)
		if err != nil {
			j.log.Error("an observation was not indexed", "action", row.ID, "error", err)
		}
		row.Observation = raw
	}
	ctx, cancel := context.WithTimeout(context.Background(), putLimit)
	defer cancel()
	if err := j.actions.Put(ctx, row); err != nil {
		j.log.Error("an action was not indexed; its agent still has it", "action", row.ID, "error", err)
	}
}

// Drop forgets an action that never ran: an entry without a state takes the place of its own, in the order of the writes, and
// goes when its time is over.
func (j *journal) Drop(runtimeID, actionID string) {
	ctx, cancel := context.WithTimeout(context.Background(), putLimit)
	defer cancel()
	now := time.Now()
	if err := j.actions.Put(ctx, store.Action{ID: actionID, RuntimeID: runtimeID, CreatedAt: now, FinishedAt: now}); err != nil {
		j.log.Warn("an action that never ran is still indexed", "action", actionID, "error", err)
	}
}

// Get returns an entry.
func (j *journal) Get(ctx context.Context, runtimeID, actionID string) (runtime.ActionEntry, bool, error) {
	row, err := j.actions.Get(ctx, runtimeID, actionID)
	if rterr.Is(err, rterr.NotFound) || (err == nil && forgotten(row)) {
		return runtime.ActionEntry{}, false, nil
	}
	if err != nil {
		return runtime.ActionEntry{}, false, err
	}
	return fromAction(row), true, nil
}

// Find returns a principal's actions of one id.
func (j *journal) Find(ctx context.Context, principal, actionID string) ([]runtime.ActionEntry, error) {
	rows, err := j.actions.Find(ctx, actionID)
	return entries(rows, principal, false, 0), err
}

// List returns the newest entries first.
func (j *journal) List(ctx context.Context, principal, runtimeID string, active bool, limit int) ([]runtime.ActionEntry, error) {
	rows, err := j.actions.List(ctx, runtimeID)
	return entries(rows, principal, active, limit), err
}

func entries(rows []store.Action, principal string, active bool, limit int) []runtime.ActionEntry {
	rows = slices.DeleteFunc(rows, func(a store.Action) bool {
		return forgotten(a) || a.Principal != principal || (active && a.Done())
	})
	slices.SortFunc(rows, func(a, b store.Action) int { return b.CreatedAt.Compare(a.CreatedAt) })
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	out := make([]runtime.ActionEntry, len(rows))
	for i, row := range rows {
		out[i] = fromAction(row)
	}
	return out
}

// forgotten: Drop was here.
func forgotten(a store.Action) bool { return a.State == 0 }

func fromAction(row store.Action) runtime.ActionEntry {
	rec := &agentv1.ActionRecord{
		Id: row.ID, Kind: row.Kind, Digest: row.Digest, State: agentv1.ActionState(row.State), Summary: row.Summary, Pid: row.Pid,
		CreatedAt: timestamp(row.CreatedAt), StartedAt: timestamp(row.StartedAt), FinishedAt: timestamp(row.FinishedAt),
	}
	if row.Timeout > 0 {
		rec.Timeout = durationpb.New(row.Timeout)
	}
	if row.Done() {
		obs := &agentv1.Observation{}
		if row.Observation == nil || proto.Unmarshal(row.Observation, obs) != nil {
			// What was too large for the index: how it ended is known all the same.
			obs = &agentv1.Observation{
				ActionId: row.ID, Outcome: agentv1.Outcome(row.Outcome), ExitCode: row.ExitCode,
				StartedAt: rec.GetStartedAt(), FinishedAt: rec.GetFinishedAt(),
			}
		}
		rec.Observation = obs
	}
	return runtime.ActionEntry{
		Runtime: row.RuntimeID, Generation: row.Generation, Principal: row.Principal, Record: rec, Answered: row.Answered,
	}
}
