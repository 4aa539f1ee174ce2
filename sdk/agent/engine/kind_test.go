package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// doer is a Kind that a test looks into.
type doer struct {
	do     Task
	mu     sync.Mutex
	ran    int
	closed int
}

func (d *doer) Prepare(payload []byte) (Task, error) {
	if string(payload) == `"bad"` {
		return nil, rterr.Invalid("", "action.payload.word", "is bad")
	}
	return func(ctx context.Context, c *Call) ([]byte, error) {
		d.mu.Lock()
		d.ran++
		d.mu.Unlock()
		return d.do(ctx, c)
	}, nil
}

func (d *doer) Close() error {
	d.closed++
	return nil
}

func withKind(d *doer) func(*Config) {
	return func(c *Config) { c.Kinds = map[string]Kind{"do": d} }
}

func TestAKindRunsOnceAndIsRecorded(t *testing.T) {
	d := &doer{do: func(_ context.Context, c *Call) ([]byte, error) {
		fmt.Fprintf(c.Output, "id %s, timeout %v, cwd %s", c.ID, c.Timeout, c.Cwd())
		return []byte(`{"observation":"do"}`), nil
	}}
	l := newLab(t, withKind(d))
	if got := l.Kinds(); !slices.Equal(got, []string{"run", "process", "do"}) {
		t.Errorf("kinds: %v", got)
	}
	l.sh("mkdir sub && cd sub")
	req := request(t, "x", "do", map[string]any{}, time.Minute)
	for i := range 3 { // The third is answered by what the next engine has read.
		s := l.exec(req)
		want := "id x, timeout 1m0s, cwd " + l.cfg.Workspace + "/sub"
		if s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_COMPLETED || string(s.obs.GetPayload()) != `{"observation":"do"}` || s.stdout() != want {
			t.Errorf("%d: %v %q", i, s.obs, s.stdout())
		}
		if i == 1 {
			l.shut()
			l.open()
		}
	}
	if d.ran != 1 || d.closed != 1 {
		t.Errorf("it ran %d times, was closed %d times", d.ran, d.closed)
	}
}

func TestAKindRefuses(t *testing.T) {
	l := newLab(t, withKind(&doer{}))
	err := l.Execute(l.ctx(), request(t, "x", "do", "bad", 0), nil)
	if e := rterr.From(err); e.Reason != rterr.InvalidArgument || e.Field != "action.payload.word" || e.Ran != rterr.RanNo {
		t.Errorf("%v", err)
	}
	if _, err := l.Get("x"); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("a refused action was recorded: %v", err)
	}
	err = l.Execute(l.ctx(), request(t, "x", "dance", "bad", 0), nil)
	if e := rterr.From(err); e.Reason != rterr.UnknownKind || e.Evidence["known"] != "run, process, do" {
		t.Errorf("%v", err)
	}
}

func TestKindsOfTheEnginesOwnCannotBeReplaced(t *testing.T) {
	for name, k := range map[string]Kind{"run": &doer{}, "process": &doer{}, "": &doer{}, "x": nil} {
		cfg := Config{StateDir: t.TempDir(), Workspace: t.TempDir(), Kinds: map[string]Kind{name: k}}
		cfg.Tree, _ = testTree()
		if _, err := New(cfg); rterr.From(err).Field != "Kinds" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// untilEnd says that it has begun and returns what ended it.
func untilEnd(ctx context.Context, c *Call) ([]byte, error) {
	_, _ = io.WriteString(c.Output, "up")
	<-ctx.Done()
	return []byte(`{"so":"far"}`), context.Cause(ctx)
}

func TestWhatEndsAKind(t *testing.T) {
	l := newLab(t, withKind(&doer{do: untilEnd}))
	s := l.exec(request(t, "", "do", nil, time.Millisecond))
	if s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_TIMED_OUT || string(s.obs.GetPayload()) != `{"so":"far"}` {
		t.Errorf("timeout: %v", s.obs)
	}
	for level := agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT; level <= agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL; level++ {
		g := l.start(request(t, "", "do", nil, time.Hour)).output()
		g.interrupt(level)
		s = g.wait()
		if s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_INTERRUPTED || string(s.obs.GetPayload()) != `{"so":"far"}` || s.stdout() != "up" {
			t.Errorf("%v: %v", level, s.obs)
		}
		if ok, err := l.Interrupt(l.ctx(), g.id, level); ok || err != nil {
			t.Errorf("an interrupt after the end: %v %v", ok, err)
		}
	}
	g := l.start(request(t, "", "do", nil, 0)).output()
	l.shut()
	if s = g.wait(); s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_LOST || s.obs.GetError().GetRan() != agentv1.Ran_RAN_UNKNOWN {
		t.Errorf("close: %v", s.obs)
	}
	l.open()
}

func TestAKindSeesEveryLevel(t *testing.T) {
	l := newLab(t, withKind(&doer{do: func(ctx context.Context, c *Call) ([]byte, error) {
		_, _ = io.WriteString(c.Output, "up")
		for level := range c.Interrupts {
			fmt.Fprint(c.Output, int(level))
			if level == agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL {
				break
			}
		}
		return nil, ctx.Err()
	}}))
	g := l.start(request(t, "", "do", nil, 0)).output()
	for level := agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT; level <= agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL; level++ {
		g.interrupt(level)
	}
	if s := g.wait(); s.stdout() != "up123" || s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_INTERRUPTED {
		t.Errorf("%q %v", s.stdout(), s.obs)
	}
}

func TestAKindThatFails(t *testing.T) {
	var do Task
	l := newLab(t, withKind(&doer{do: func(ctx context.Context, c *Call) ([]byte, error) { return do(ctx, c) }}))
	for name, c := range map[string]struct {
		do   Task
		want string
		ran  agentv1.Ran
	}{
		"error": {func(context.Context, *Call) ([]byte, error) { return []byte("x"), errors.New("no luck") }, "no luck", agentv1.Ran_RAN_UNKNOWN},
		"known": {func(context.Context, *Call) ([]byte, error) {
			return nil, rterr.New(rterr.PermissionDenied, "", "not you").WithRan(rterr.RanNo)
		}, "not you", agentv1.Ran_RAN_NO},
		"panic": {func(context.Context, *Call) ([]byte, error) { panic("oh") }, "panic: oh", agentv1.Ran_RAN_UNKNOWN},
	} {
		do = c.do
		s := l.exec(request(t, "", "do", nil, 0))
		e := s.obs.GetError()
		if s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_FAILED || e.GetMessage() != c.want || e.GetRan() != c.ran || len(s.obs.GetPayload()) > 0 {
			t.Errorf("%s: %v", name, s.obs)
		}
	}
}

func TestAKindThatDoesNotEndIsGivenUp(t *testing.T) {
	release := make(chan struct{})
	l := newLab(t, withKind(&doer{do: func(_ context.Context, c *Call) ([]byte, error) {
		_, _ = io.WriteString(c.Output, "up")
		<-release
		_, _ = io.WriteString(c.Output, "late")
		return nil, nil
	}}))
	t.Cleanup(func() { close(release) })
	g := l.start(request(t, "", "do", nil, 0)).output()
	g.interrupt(agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL)
	l.lookup(g.id).by.(*doing).giveUp() // As its timer does.
	s := g.wait()
	if s.obs.GetOutcome() != agentv1.Outcome_OUTCOME_LOST || !strings.Contains(s.obs.GetError().GetMessage(), "did not end") || s.stdout() != "up" {
		t.Errorf("%v", s.obs)
	}
}

func TestAKindThatIsEndedBeforeItBegins(t *testing.T) {
	d := &doer{do: untilEnd}
	l := newLab(t, withKind(d))
	for cause, outcome := range map[error]agentv1.Outcome{
		ErrInterrupted: agentv1.Outcome_OUTCOME_INTERRUPTED, ErrClosing: agentv1.Outcome_OUTCOME_LOST,
	} {
		task, _ := d.Prepare(nil)
		j := l.kindJob(task)
		v := &live{id: action.NewID(), by: j.by}
		v.record = &agentv1.ActionRecord{Id: v.id, Kind: "do"}
		p, err := j.reserve(v)
		if err != nil || !p.runs || l.enter(v) != nil {
			t.Fatal(err)
		}
		j.by.(*doing).end(cause)
		p.begin()
		r, err := l.Get(v.id)
		if err != nil || r.GetObservation().GetOutcome() != outcome || r.GetObservation().GetError().GetRan() != agentv1.Ran_RAN_NO {
			t.Errorf("%v: %v %v", cause, r, err)
		}
	}
	if d.ran != 0 || l.doings.Load() != 0 {
		t.Errorf("it ran %d times, %d are counted", d.ran, l.doings.Load())
	}
}
