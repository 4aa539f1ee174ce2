package runtime

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// statuses are the statuses that a memory's log has seen from the nth event on, with their messages.
func (m *memory) statuses(from int) string {
	m.memoryLog.mu.Lock()
	defer m.memoryLog.mu.Unlock()
	var out []string
	for _, ev := range m.events[from:] {
		if s := ev.GetStatus(); s != nil {
			out = append(out, strings.TrimSpace(lifecycle.Status(s.GetTo()).String()+" "+s.GetMessage()))
		}
	}
	return strings.Join(out, ", ")
}

func TestSetUpGoesThroughItsStatusAndBackWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		from := len(mem.events)
		broken := errors.New("the disk is full")
		for _, c := range []struct {
			stage Stage
			err   error
		}{{StageWorkspace, nil}, {StageGitHooks, nil}, {StageWorkspace, broken}} {
			err := m.SetUp(as(t, "p"), v.GetId(), c.stage, "doing it", func(ctx context.Context) error {
				if _, ok := PrincipalFrom(ctx); !ok {
					t.Error("nobody is asking")
				}
				// Setting up is done by actions.
				s, err := m.Execute(ctx, v.GetId(), process("a-"+lifecycle.Status(c.stage).String()))
				if err != nil {
					return err
				}
				defer s.Close()
				return c.err
			})
			if !errors.Is(err, c.err) {
				t.Errorf("%v, want %v", err, c.err)
			}
		}
		want := "SETTING_UP_WORKSPACE doing it, READY, SETTING_UP_GIT_HOOKS doing it, READY, SETTING_UP_WORKSPACE doing it, READY the disk is full"
		if got := mem.statuses(from); got != want {
			t.Errorf("statuses %s\nwant %s", got, want)
		}
		if _, err := m.Pause(as(t, "p"), v.GetId()); err != nil {
			t.Errorf("the runtime is not usable: %v", err)
		}
		err := m.SetUp(as(t, "p"), v.GetId(), StageWorkspace, "", func(context.Context) error { t.Error("in a paused runtime"); return nil })
		if e := rterr.From(err); e.Reason != rterr.SandboxPaused || e.Ran != rterr.RanNo {
			t.Errorf("%v", err)
		}
		if err := m.SetUp(as(t, "q"), v.GetId(), StageWorkspace, "", nil); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("somebody else: %v", err)
		}
	})
}

func TestSetUpsTakeTurnsAndGoOnWithoutTheirCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		ctx, leave := context.WithCancel(as(t, "p"))
		release, results := make(chan struct{}), make(chan error, 3)
		go func() {
			results <- m.SetUp(ctx, v.GetId(), StageWorkspace, "first", func(ctx context.Context) error {
				select {
				case <-release:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
		synctest.Wait()
		waiting, giveUp := context.WithCancel(as(t, "p"))
		go func() {
			results <- m.SetUp(waiting, v.GetId(), StageWorkspace, "never", func(context.Context) error { t.Error("it ran"); return nil })
		}()
		synctest.Wait()
		giveUp()
		if err := <-results; !rterr.Is(err, rterr.Cancelled) {
			t.Errorf("who waited: %v", err)
		}
		go func() {
			results <- m.SetUp(as(t, "p"), v.GetId(), StageGitHooks, "second", func(context.Context) error { return nil })
		}()
		leave()
		synctest.Wait()
		if got, err := m.Get(as(t, "p"), v.GetId()); err != nil || lifecycle.Status(got.GetStatus()) != lifecycle.SettingUpWorkspace {
			t.Errorf("%v, %v", got, err)
		}
		close(release)
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestSetUpDoesNotReviveWhatHasEndedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mem := newWorld(), newMemory()
		m := start(t, w, mem)
		defer m.Close()
		v := create(t, m, "s1")
		err := m.SetUp(as(t, "p"), v.GetId(), StageWorkspace, "", func(ctx context.Context) error {
			_, err := m.Stop(ctx, v.GetId(), false)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := m.Get(as(t, "p"), v.GetId()); got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED {
			t.Errorf("%v", got)
		}
		// The limit of the status ends it as a failure; its end does not undo that.
		v = create(t, m, "s2")
		err = m.SetUp(as(t, "p"), v.GetId(), StageGitHooks, "", func(context.Context) error {
			time.Sleep(lifecycle.Limit(lifecycle.SettingUpGitHooks) + time.Second) // synctest's clock
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := m.Get(as(t, "p"), v.GetId()); got.GetStatus() != backendv1.RuntimeStatus_RUNTIME_STATUS_ERROR {
			t.Errorf("%v", got)
		}
	})
}

func TestHasFeature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, newWorld(), newMemory())
		defer m.Close()
		v, _, err := m.Create(as(t, "p"), &runtimev1.CreateRuntimeRequest{Wait: true, Spec: &backendv1.SandboxSpec{Features: []string{"jupyter"}}})
		if err != nil {
			t.Fatal(err)
		}
		for feature, want := range map[string]bool{"jupyter": true, "vscode": false} {
			if got, err := m.HasFeature(as(t, "p"), v.GetId(), feature); err != nil || got != want {
				t.Errorf("%s: %v, %v", feature, got, err)
			}
		}
		if _, err := m.HasFeature(as(t, "q"), v.GetId(), "jupyter"); !rterr.Is(err, rterr.NotFound) {
			t.Errorf("somebody else: %v", err)
		}
	})
}
