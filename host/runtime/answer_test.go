package runtime

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/openhands-rt/openhands-rt/host/answer"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// counted counts what is really done.
type counted struct {
	answer.Sessions
	mu     sync.Mutex
	writes int
}

func (c *counted) Write(principal, sid, name string, data []byte) error {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Sessions.Write(principal, sid, name, data)
}

// answering starts a manager that answers by itself, with its files in a folder of the test's.
func answering(t *testing.T, w *world, m *memory) (*Manager, *counted) {
	t.Helper()
	files, err := answer.OpenFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	c := &counted{Sessions: files}
	return start(t, w, m, func(o *Options) { o.Answers = answer.New(c) }), c
}

func hosted(id, kind, payload string) *agentv1.ExecuteRequest {
	return &agentv1.ExecuteRequest{Action: &agentv1.Action{Id: id, Kind: kind, Payload: []byte(payload)}}
}

// observed reads a stream to its end: one record, then the observation, and nothing else.
func observed(t *testing.T, s agent.Stream, err error) *agentv1.Observation {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Recv()
	if err != nil || first.GetRecord().GetState() != agentv1.ActionState_ACTION_STATE_DONE {
		t.Fatalf("%v, %v", first, err)
	}
	second, err := s.Recv()
	if err != nil || second.GetObservation() == nil {
		t.Fatalf("%v, %v", second, err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("%v", err)
	}
	return second.GetObservation()
}

func TestWhatTheHostAnswersNeverReachesASandboxAndIsJournalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m, files := answering(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		if _, err := m.Pause(as(t, "p"), v.GetId()); err != nil {
			t.Fatal(err)
		}
		plan := `{"command":"plan","task_list":[{"id":"1","title":"T","status":"done","notes":""}]}`
		for range 3 {
			s, err := m.Execute(as(t, "p"), v.GetId(), hosted("plan-1", action.KindTaskTracking, plan))
			obs := observed(t, s, err)
			if obs.GetOutcome() != agentv1.Outcome_OUTCOME_COMPLETED || !strings.Contains(string(obs.GetPayload()), "sessions/s1/TASKS.md") {
				t.Errorf("%v", obs)
			}
		}
		if files.writes != 1 {
			t.Errorf("the plan was written %d times", files.writes)
		}
		s, err := m.Attach(as(t, "p"), "", "plan-1", agentv1.OutputMode_OUTPUT_MODE_STREAM, nil)
		observed(t, s, err)
		info, err := m.Action(as(t, "p"), v.GetId(), "plan-1")
		if err != nil || info.GetRecord().GetKind() != action.KindTaskTracking || info.GetGeneration() != noSandbox {
			t.Errorf("%v, %v", info, err)
		}
		_, err = m.Execute(as(t, "p"), v.GetId(), hosted("plan-1", action.KindThink, `{}`))
		if !rterr.Is(err, rterr.ActionConflict) {
			t.Errorf("another action under the id: %v", err)
		}
		if ran := w.get(v.GetSandboxId()).agent.started(); len(ran) != 0 {
			t.Errorf("the sandbox has run %v", ran)
		}
		var told []string
		for _, ev := range mem.events {
			if a := ev.GetAction(); a != nil {
				told = append(told, a.GetActionId()+" "+a.GetState().String())
			}
		}
		if len(told) != 1 || told[0] != "plan-1 ACTION_STATE_DONE" {
			t.Errorf("events %v", told)
		}
	})
}

func TestAnAnswerSurvivesTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m, files := answering(t, w, mem)
		v := create(t, m, "s1")
		plan := hosted("x", action.KindTaskTracking, `{"command":"plan","task_list":[]}`)
		s, err := m.Execute(as(t, "p"), v.GetId(), plan)
		first := observed(t, s, err)
		m.Close()
		again := start(t, w, mem, func(o *Options) { o.Answers = answer.New(files) })
		defer again.Close()
		s, err = again.Execute(as(t, "p"), v.GetId(), plan)
		if second := observed(t, s, err); string(second.GetPayload()) != string(first.GetPayload()) || files.writes != 1 {
			t.Errorf("%v after %d writes", second, files.writes)
		}
	})
}

func TestRefusedAnswersLeaveNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m, _ := answering(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		_, err := m.Execute(as(t, "p"), v.GetId(), hosted("bad", action.KindRecall, `{}`))
		if e := rterr.From(err); e.Reason != rterr.InvalidArgument || e.Ran != rterr.RanNo {
			t.Errorf("%v", err)
		}
		_, err = m.Execute(as(t, "p"), v.GetId(), hosted("mcp", action.KindCallToolMCP, `{"name":"x"}`))
		if e := rterr.From(err); e.Reason != rterr.UnknownKind || !strings.Contains(err.Error(), "MCP") {
			t.Errorf("%v", err)
		}
		if list, err := m.Actions(as(t, "p"), "", false, 0); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
		// The id of a refused action is free.
		s, err := m.Execute(as(t, "p"), v.GetId(), hosted("bad", action.KindThink, `{}`))
		observed(t, s, err)
		if _, err := m.Stop(as(t, "p"), v.GetId(), false); err != nil {
			t.Fatal(err)
		}
		_, err = m.Execute(as(t, "p"), v.GetId(), hosted("late", action.KindThink, `{}`))
		if !rterr.Is(err, rterr.IllegalState) {
			t.Errorf("in a stopped runtime: %v", err)
		}
		s, err = m.Execute(as(t, "p"), v.GetId(), hosted("bad", action.KindThink, `{}`))
		observed(t, s, err)
	})
}

func TestRejectedCommandsDoNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m, _ := answering(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		for state, want := range map[string]string{"rejected": `"user_rejected"`, "awaiting_confirmation": `"null"`} {
			s, err := m.Execute(as(t, "p"), v.GetId(), hosted(state, action.KindRun, `{"command":"x","confirmation_state":"`+state+`"}`))
			if obs := observed(t, s, err); !strings.Contains(string(obs.GetPayload()), want) || obs.ExitCode != nil {
				t.Errorf("%s: %v", state, obs)
			}
		}
		if ran := w.get(v.GetSandboxId()).agent.started(); len(ran) != 0 {
			t.Errorf("the sandbox has run %v", ran)
		}
	})
}

func TestTwoRequestsOfOneIDAreAnsweredOnce(t *testing.T) {
	w, mem := newWorld(), newMemory()
	m, files := answering(t, w, mem)
	defer m.Close()
	v := create(t, m, "s1")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := m.Execute(as(t, "p"), v.GetId(), hosted("one", action.KindTaskTracking, `{"command":"plan"}`))
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if files.writes != 1 {
		t.Errorf("%d writes", files.writes)
	}
}
