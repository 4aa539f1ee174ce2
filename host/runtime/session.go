package runtime

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Session opens a runtime with its session key instead of a principal's: the context that it returns carries the runtime's owner.
// An unknown runtime and a wrong key look the same, Unauthenticated, and take the same time.
func (m *Manager) Session(ctx context.Context, id, sessionKey string) (context.Context, *runtimev1.Runtime, error) {
	r := m.byID(id)
	want := ""
	if r != nil {
		want = r.rec.Runtime.GetSessionKey() // never changes
	}
	if !sameKey(want, sessionKey) {
		return nil, nil, rterr.New(rterr.Unauthenticated, "", "no such runtime, or a wrong session key").
			WithRemedy("send the runtime's session key in " + SessionKeyHeader)
	}
	return WithPrincipal(ctx, Principal{ID: r.principal()}), r.view(), nil
}

// Exposed is Session for the little that a runtime's URL shows to anybody who knows it. NotFound for an unknown id.
func (m *Manager) Exposed(ctx context.Context, id string) (context.Context, *runtimev1.Runtime, error) {
	r := m.byID(id)
	if r == nil {
		return nil, nil, notFound(id)
	}
	return WithPrincipal(ctx, Principal{ID: r.principal()}), r.view(), nil
}

func (m *Manager) byID(id string) *Runtime {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runtimes[id]
}

// SetAnswered notes durably, written behind, whether the client of an action has its answer. It is for doors whose protocol has
// no ids of actions: after a restart of the host they tell a request that was never answered from a new one by it.
func (m *Manager) SetAnswered(ctx context.Context, ref, actionID string, answered bool) error {
	_, x, entry, err := m.locate(ctx, ref, actionID)
	if err != nil {
		return err
	}
	if x != nil {
		x.setAnswered(answered)
		return nil
	}
	entry.Answered = answered
	m.opts.Journal.Put(entry)
	return nil
}

// RecordedAction is what Recorded says of an action.
type RecordedAction struct {
	ID       string
	Answered bool
	// CreatedAt is when its agent got it; FinishedAt is zero while it runs. Both by the agent's clock.
	CreatedAt, FinishedAt time.Time
}

// Recorded lists the actions of a runtime's present generation, newest first, at most limit: those that its agent has, whether or
// not the journal lost them with an earlier life of the host, and those that the journal alone still has.
func (m *Manager) Recorded(ctx context.Context, ref string, limit int) ([]RecordedAction, error) {
	r, err := m.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	gen, err := r.admit(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := m.opts.Journal.List(ctx, r.principal(), r.id, false, limit)
	if err != nil {
		return nil, err
	}
	records, err := gen.list(ctx, limit)
	if err != nil {
		return nil, err
	}
	all := map[string]RecordedAction{}
	for _, e := range entries {
		if e.Generation == gen.number {
			all[e.Record.GetId()] = recorded(e.Record, e.Answered)
		}
	}
	for _, record := range records {
		all[record.GetId()] = recorded(record, all[record.GetId()].Answered)
	}
	return newestActions(all, limit), nil
}

func recorded(record *agentv1.ActionRecord, answered bool) RecordedAction {
	a := RecordedAction{ID: record.GetId(), Answered: answered, CreatedAt: record.GetCreatedAt().AsTime()}
	if record.GetFinishedAt() != nil {
		a.FinishedAt = record.GetFinishedAt().AsTime()
	}
	return a
}

func newestActions(all map[string]RecordedAction, limit int) []RecordedAction {
	out := slices.SortedFunc(maps.Values(all), func(a, b RecordedAction) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out[:min(limit, len(out))]
}

// lister is an Executor that lists what its agent has recorded.
type lister interface {
	ListActions(context.Context, *agentv1.ListActionsRequest) (*agentv1.ListActionsResponse, error)
}

func (g *generation) list(ctx context.Context, limit int) ([]*agentv1.ActionRecord, error) {
	exec, err := g.executor(ctx)
	if err != nil {
		return nil, err
	}
	l, ok := exec.(lister)
	if !ok {
		return nil, nil
	}
	answer, err := l.ListActions(ctx, &agentv1.ListActionsRequest{Limit: uint32(limit)}) //nolint:gosec // a small count
	return answer.GetRecords(), err
}
