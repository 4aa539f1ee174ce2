package runtime

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// ListActions makes the fake a lister, as the real agent is.
func (a *agentFake) ListActions(context.Context, *agentv1.ListActionsRequest) (*agentv1.ListActionsResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := &agentv1.ListActionsResponse{}
	for _, id := range a.ran {
		out.Records = append(out.Records, &agentv1.ActionRecord{Id: id, FinishedAt: a.runs[id].obs.GetFinishedAt()})
	}
	return out, nil
}

func TestASessionKeyOpensOneRuntimeAsItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newWorld(), newMemory())
		defer m.Close()
		v, other := create(t, m, "s1"), create(t, m, "s2")
		ctx, seen, err := m.Session(t.Context(), v.GetId(), v.GetSessionKey())
		if err != nil || seen.GetId() != v.GetId() {
			t.Fatalf("%v, %v", seen, err)
		}
		if got, err := m.Get(ctx, v.GetId()); err != nil || got.GetSid() != "s1" {
			t.Errorf("as the owner: %v, %v", got, err)
		}
		refused := map[string]string{}
		for name, try := range map[string][2]string{
			"wrong key": {v.GetId(), "x"}, "no key": {v.GetId(), ""}, "another's key": {v.GetId(), other.GetSessionKey()},
			"unknown": {"r0unknown", v.GetSessionKey()}, "unknown without key": {"r0unknown", ""}, "its sid": {"s1", v.GetSessionKey()},
		} {
			if _, _, err := m.Session(t.Context(), try[0], try[1]); rterr.Is(err, rterr.Unauthenticated) {
				refused[err.Error()] = name
			} else {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(refused) != 1 {
			t.Errorf("refusals tell more than that they are: %v", refused)
		}
	})
}

func TestExposedNeedsNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newWorld(), newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		if _, seen, err := m.Exposed(t.Context(), v.GetId()); err != nil || seen.GetId() != v.GetId() {
			t.Errorf("%v, %v", seen, err)
		}
		if _, _, err := m.Exposed(t.Context(), "s1"); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("by its sid: %v", err)
		}
	})
}

func TestRecordedKnowsWhatIsAnsweredAndWhatTheJournalLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		a := w.get(v.GetSandboxId()).agent
		for _, id := range []string{"answered", "taken-back", "running", "lost"} {
			s, err := m.Execute(as(t, "p"), v.GetId(), process(id))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if id != "running" {
				a.end(id, 0)
				if _, err := transcript(s); err != nil {
					t.Fatal(err)
				}
			}
		}
		set := func(id string, answered bool) {
			t.Helper()
			if err := m.SetAnswered(as(t, "p"), v.GetId(), id, answered); err != nil {
				t.Error(err)
			}
		}
		set("answered", true)
		set("taken-back", true)
		set("taken-back", false)
		synctest.Wait()
		mem.Drop(v.GetId(), "lost")
		got, err := m.Recorded(as(t, "p"), v.GetId(), 10)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b RecordedAction) int { return len(a.ID)*100 + int(a.ID[0]) - len(b.ID)*100 - int(b.ID[0]) })
		var text []string
		for _, a := range got {
			text = append(text, fmt.Sprintf("%s %v %v", a.ID, a.Answered, a.FinishedAt.IsZero()))
		}
		want := []string{"lost false false", "running false true", "answered true false", "taken-back false false"}
		if !slices.Equal(text, want) {
			t.Errorf("%v, want %v", text, want)
		}
		if err := m.SetAnswered(as(t, "q"), v.GetId(), "answered", false); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("somebody else: %v", err)
		}
		a.end("running", 0)
		synctest.Wait()
	})
}
