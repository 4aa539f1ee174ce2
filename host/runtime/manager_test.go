package runtime

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func create(t *testing.T, m *Manager, sid string) *runtimev1.Runtime {
	t.Helper()
	v, _, err := m.Create(as(t, "p"), &runtimev1.CreateRuntimeRequest{Sid: sid, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func process(id string) *agentv1.ExecuteRequest {
	return &agentv1.ExecuteRequest{Action: &agentv1.Action{Id: id, Kind: "process", Payload: []byte(`{"argv":["x"]}`)}}
}

func run(id string) *agentv1.ExecuteRequest {
	return &agentv1.ExecuteRequest{Action: &agentv1.Action{Id: id, Kind: "run", Payload: []byte(`{"command":"x"}`)}}
}

// transcript reads a stream to its end: "record", output, "gap:N", "end:CODE" or the outcome.
func transcript(s agent.Stream) (string, error) {
	var b strings.Builder
	for {
		ev, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
		switch {
		case ev.GetRecord() != nil:
			b.WriteString("record ")
		case ev.GetOutput() != nil:
			b.Write(ev.GetOutput().GetData())
		case ev.GetGap() != nil:
			b.WriteString(" gap")
		case ev.GetObservation() != nil:
			b.WriteString(" " + ev.GetObservation().GetOutcome().String())
		}
	}
}

func TestCreateGoesThroughTheStatusesAndIsSavedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		if v.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_READY || v.GetSandboxId() == "" || v.GetGeneration() != 1 {
			t.Errorf("%v", v)
		}
		var statuses []string
		for _, ev := range mem.events {
			if s := ev.GetStatus(); s != nil {
				statuses = append(statuses, lifecycle.Status(s.GetTo()).String())
			}
		}
		if got := strings.Join(statuses, " "); got != "STARTING_RUNTIME RUNTIME_STARTED READY" {
			t.Errorf("statuses %s", got)
		}
		if rec := mem.records[v.GetId()]; rec.Handle == nil || rec.IntentID == "" {
			t.Errorf("not saved: %+v", rec)
		}
		if _, _, err := m.Create(as(t, "p"), &runtimev1.CreateRuntimeRequest{Sid: "s1"}); !rterr.Is(err, rterr.AlreadyExists) {
			t.Errorf("a second runtime of the sid: %v", err)
		}
		again, attached, err := m.Create(as(t, "p"), &runtimev1.CreateRuntimeRequest{Sid: "s1", AttachToExisting: true})
		if err != nil || !attached || again.GetId() != v.GetId() {
			t.Errorf("attach: %v, %v, %v", again, attached, err)
		}
	})
}

func TestOtherPrincipalsSeeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newWorld(), newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		if _, err := m.Get(as(t, "q"), v.GetId()); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("get: %v", err)
		}
		if _, err := m.Execute(as(t, "q"), v.GetId(), process("a")); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("execute: %v", err)
		}
		if list, err := m.List(as(t, "q"), true); err != nil || len(list) != 0 {
			t.Errorf("list: %v, %v", list, err)
		}
		if events, err := m.Events(as(t, "q"), "", 0, 0); err != nil || len(events) != 0 {
			t.Errorf("events: %v, %v", events, err)
		}
		if events, err := m.Events(as(t, "p"), "", 0, 0); err != nil || len(events) == 0 {
			t.Errorf("the owner's events: %v, %v", events, err)
		}
		if _, err := m.Get(t.Context(), v.GetId()); !rterr.Is(err, rterr.Unauthenticated) {
			t.Errorf("nobody: %v", err)
		}
		if _, err := m.Sandbox(t.Context(), v.GetId(), "wrong"); !rterr.Is(err, rterr.Unauthenticated) {
			t.Errorf("a wrong session key: %v", err)
		}
	})
}

func TestAnActionRunsOnceHoweverOftenItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		a := w.get(v.GetSandboxId()).agent
		results := make(chan string, 5)
		for range 5 {
			s, err := m.Execute(as(t, "p"), v.GetId(), process("once"))
			if err != nil {
				t.Fatal(err)
			}
			go func() { text, _ := transcript(s); results <- text }()
		}
		synctest.Wait()
		a.write("once", "hello")
		a.end("once", 0)
		for range 5 {
			if got := <-results; got != "record hello OUTCOME_COMPLETED" {
				t.Errorf("%q", got)
			}
		}
		s, err := m.Execute(as(t, "p"), v.GetId(), process("once"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := transcript(s); got != "record hello OUTCOME_COMPLETED" || err != nil {
			t.Errorf("afterwards: %q, %v", got, err)
		}
		if ran := a.started(); len(ran) != 1 {
			t.Errorf("it ran %d times", len(ran))
		}
		other := process("once")
		other.Action.Payload = []byte(`{"argv":["y"]}`)
		if _, err := m.Execute(as(t, "p"), v.GetId(), other); !rterr.Is(err, rterr.ActionConflict) {
			t.Errorf("another action of that id: %v", err)
		}
	})
}

func TestCutsLoseAndRepeatNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		a := w.get(v.GetSandboxId()).agent
		s, err := m.Execute(as(t, "p"), v.GetId(), process("a"))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		go func() { text, err := transcript(s); got <- text + errText(err) }()
		for _, piece := range []string{"ab", "cd", "ef"} {
			synctest.Wait()
			a.write("a", piece)
			synctest.Wait()
			a.cut()
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		a.end("a", 0)
		if text := <-got; text != "record abcdef OUTCOME_COMPLETED" {
			t.Errorf("%q", text)
		}
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return " error: " + err.Error()
}

func TestASlowReaderHoldsUpNobodyAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		a := w.get(v.GetSandboxId()).agent
		slow, err := m.Execute(as(t, "p"), v.GetId(), run("slow"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		text := strings.Repeat("0123456789", 1000)
		a.write("slow", text)
		a.end("slow", 0)
		synctest.Wait() // nobody has read anything, and the permit is free all the same
		next, err := m.Execute(as(t, "p"), v.GetId(), run("next"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.end("next", 0)
		if got, err := transcript(next); err != nil || got != "record  OUTCOME_COMPLETED" {
			t.Errorf("next: %q, %v", got, err)
		}
		if got, err := transcript(slow); err != nil || got != "record "+text+" OUTCOME_COMPLETED" {
			t.Errorf("slow: %d bytes, %v", len(got), err)
		}
	})
}

func TestRunActionsTakeTurnsAndAQueuedOneCanBeWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		a := w.get(v.GetSandboxId()).agent
		var streams []agent.Stream
		for _, id := range []string{"r1", "r2", "r3"} {
			s, err := m.Execute(as(t, "p"), v.GetId(), run(id))
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, s)
			synctest.Wait()
		}
		if _, err := m.Execute(as(t, "p"), v.GetId(), process("free")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := strings.Join(a.started(), " "); got != "r1 free" {
			t.Errorf("started: %s; a process needs no permit, run actions take turns", got)
		}
		if got, _ := m.Get(as(t, "p"), v.GetId()); got.GetQueued() != 2 {
			t.Errorf("%d queued, want 2", got.GetQueued())
		}
		if ok, err := m.Interrupt(as(t, "p"), v.GetId(), "r2", 0); !ok || err != nil {
			t.Errorf("withdraw: %v, %v", ok, err)
		}
		if got, err := transcript(streams[1]); got != "record  OUTCOME_INTERRUPTED" || err != nil {
			t.Errorf("r2: %q, %v", got, err)
		}
		a.end("r1", 0)
		synctest.Wait()
		if got := strings.Join(a.started(), " "); got != "r1 free r3" {
			t.Errorf("started: %s", got)
		}
		a.end("r3", 0)
		a.end("free", 0)
	})
}

func TestTheActionGoesOnWhenItsClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		a := w.get(v.GetSandboxId()).agent
		ctx, leave := context.WithCancel(as(t, "p"))
		s, err := m.Execute(ctx, v.GetId(), run("a"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		leave()
		_ = s.Close()
		a.write("a", "xyz")
		a.end("a", 3)
		synctest.Wait()
		info, err := m.Action(as(t, "p"), "", "a")
		if err != nil || info.GetRecord().GetObservation().GetExitCode() != 3 {
			t.Errorf("%v, %v", info, err)
		}
		if err := m.Idle(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestARestartedHostAdoptsAndFollowsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		first := start(t, w, mem)
		v := create(t, first, "s1")
		a := w.get(v.GetSandboxId()).agent
		if _, err := first.Execute(as(t, "p"), v.GetId(), run("long")); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Execute(as(t, "p"), v.GetId(), run("waiting")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.write("long", "before ")
		first.Close()

		second := start(t, w, mem)
		defer second.Close()
		got, err := second.Get(as(t, "p"), v.GetId())
		if err != nil || got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_READY || got.GetSandboxId() != v.GetSandboxId() {
			t.Fatalf("not adopted: %v, %v", got, err)
		}
		s, err := second.Attach(as(t, "p"), "", "long", 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		retried, err := second.Execute(as(t, "p"), v.GetId(), run("waiting"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if ran := strings.Join(a.started(), " "); ran != "long" {
			t.Errorf("started %q: the permit of a running action was not taken again", ran)
		}
		a.write("long", "after")
		a.end("long", 0)
		if text, err := transcript(s); text != "record before after OUTCOME_COMPLETED" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		synctest.Wait()
		a.end("waiting", 0)
		if text, err := transcript(retried); text != "record  OUTCOME_COMPLETED" || err != nil {
			t.Errorf("retried: %q, %v", text, err)
		}
	})
}

func TestASandboxThatIsGoneEndsItsActionsAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		s, err := m.Execute(as(t, "p"), v.GetId(), process("a"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.setPhase(v.GetSandboxId(), backendv1.Phase_PHASE_GONE)
		if text, err := transcript(s); text != "record  OUTCOME_LOST" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		synctest.Wait()
		got, _ := m.Get(as(t, "p"), v.GetId())
		if got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR_RUNTIME_DISCONNECTED || got.GetPhase() != backendv1.Phase_PHASE_GONE {
			t.Errorf("%v", got)
		}
		again, err := m.Execute(as(t, "p"), v.GetId(), process("a"))
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := transcript(again); text != "record  OUTCOME_LOST" {
			t.Errorf("sent again: %q; it must not run again", text)
		}
	})
}

func TestRecreateMakesTheNextGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory(), func(o *Options) { o.Recreate = true })
		defer m.Close()
		v := create(t, m, "s1")
		w.setPhase(v.GetSandboxId(), backendv1.Phase_PHASE_GONE)
		synctest.Wait()
		got, err := m.Get(as(t, "p"), v.GetId())
		if err != nil || got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_READY || got.GetGeneration() != 2 ||
			got.GetSessionKey() != v.GetSessionKey() || got.GetSandboxId() == v.GetSandboxId() {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestPauseResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newWorld(), newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		for range 2 {
			if got, err := m.Pause(as(t, "p"), v.GetId()); err != nil || got.GetPhase() != backendv1.Phase_PHASE_PAUSED {
				t.Errorf("%v, %v", got, err)
			}
		}
		if _, err := m.Execute(as(t, "p"), v.GetId(), process("a")); !rterr.Is(err, rterr.SandboxPaused) {
			t.Errorf("paused: %v", err)
		}
		for range 2 {
			got, err := m.Resume(as(t, "p"), v.GetId())
			if err != nil || got.GetPhase() != backendv1.Phase_PHASE_RUNNING || got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_READY {
				t.Errorf("%v, %v", got, err)
			}
		}
	})
}

func TestStopLeavesNothingAndFreesTheSid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory())
		defer m.Close()
		v := create(t, m, "s1")
		s, err := m.Execute(as(t, "p"), v.GetId(), run("a"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 2 {
			if got, err := m.Stop(as(t, "p"), v.GetId(), false); err != nil || got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED {
				t.Errorf("%v, %v", got, err)
			}
		}
		if len(w.sandboxes) != 0 {
			t.Error("a sandbox is left")
		}
		if text, _ := transcript(s); text != "record  OUTCOME_LOST" {
			t.Errorf("what ran: %q", text)
		}
		if _, err := m.Execute(as(t, "p"), v.GetId(), run("b")); !rterr.Is(err, rterr.IllegalState) {
			t.Errorf("after the end: %v", err)
		}
		if again := create(t, m, "s1"); again.GetId() == v.GetId() {
			t.Error("the sid is not free")
		}
	})
}

func TestStoppingAStartWaitsForItsEndAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := start(t, w, newMemory())
		defer m.Close()
		w.block = func(ctx context.Context) {
			<-ctx.Done()
			time.Sleep(time.Second) // the provider makes the sandbox although nobody waits any more
		}
		v, _, err := m.Create(as(t, "p"), &runtimev1.CreateRuntimeRequest{Sid: "s1"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, err := m.Stop(as(t, "p"), v.GetId(), false); err != nil || got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED {
			t.Errorf("%v, %v", got, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(w.sandboxes) != 0 {
			t.Error("a sandbox is left")
		}
	})
}

func TestAFailedConnectLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.failConnect = []error{rterr.New(rterr.QuotaExceeded, "create devbox", "limit reached")}
		m := start(t, w, newMemory())
		defer m.Close()
		_, _, err := m.Create(as(t, "p"), &runtimev1.CreateRuntimeRequest{Sid: "s1", Wait: true})
		if !rterr.Is(err, rterr.QuotaExceeded) {
			t.Errorf("%v", err)
		}
		w.failConnect = []error{rterr.New(rterr.Network, "", "reset"), rterr.New(rterr.Network, "", "reset")}
		v, err := m.Get(as(t, "p"), "s1")
		if err != nil || v.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR || v.GetError().GetReason() != agentv1.Reason_REASON_QUOTA_EXCEEDED {
			t.Errorf("%v, %v", v, err)
		}
		create(t, m, "s2") // network faults inside the budget end well
		if len(w.sandboxes) != 1 {
			t.Errorf("%d sandboxes", len(w.sandboxes))
		}
	})
}
