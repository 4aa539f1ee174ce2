package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// testTree is the tree of all engines of this test process: a walked tree is all descendants of its process.
var testTree = sync.OnceValues(func() (sandbox.Tree, error) { return sandbox.NewTree(sandbox.TreeConfig{}) })

// lastBreath is how long what a test has killed may take to end.
const lastBreath = 5 * time.Second

// children are the command lines of this process's children.
func children() []string {
	var names []string
	tasks, _ := filepath.Glob("/proc/self/task/*/children") // the pattern is right
	for _, task := range tasks {
		pids, _ := os.ReadFile(task) //nolint:gosec // the kernel's own
		for _, pid := range strings.Fields(string(pids)) {
			line, _ := os.ReadFile("/proc/" + pid + "/cmdline") //nolint:gosec // as above; one that has ended has none
			names = append(names, pid+": "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return names
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(dir)
		return
	}
	code := m.Run()
	if tree, err := testTree(); err == nil {
		names := children()
		for end := time.Now().Add(lastBreath); len(names) > 0 && time.Now().Before(end); names = children() {
			time.Sleep(10 * time.Millisecond) // there is no event for the end of somebody else's child
		}
		if left, err := tree.Kill(); err != nil || left > 0 {
			fmt.Fprintf(os.Stderr, "%d processes were left behind (%v): %s\n", left, err, names)
			code = max(code, 1)
		}
		if err := tree.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// lab is an engine under test.
type lab struct {
	testing.TB
	*Engine
	cfg Config
}

func testEnv(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TERM=dumb", "LANG=C.UTF-8"}
}

func newLab(t testing.TB, change ...func(*Config)) *lab {
	t.Helper()
	tree, err := testTree()
	if err != nil {
		t.Fatal(err)
	}
	level := hclog.Warn
	if os.Getenv("ENGINE_TEST_LOG") != "" {
		level = hclog.Debug
	}
	cfg := Config{StateDir: t.TempDir(), Workspace: t.TempDir(), Tree: tree,
		Logger: hclog.New(&hclog.LoggerOptions{Level: level, Output: testLog{t}})}
	cfg.Env = testEnv(cfg.Workspace)
	for _, f := range change {
		f(&cfg)
	}
	l := &lab{TB: t, cfg: cfg}
	l.open()
	t.Cleanup(l.shut)
	return l
}

func (l *lab) open() {
	l.Helper()
	e, err := New(l.cfg)
	if err != nil {
		l.Fatal(err)
	}
	l.Engine = e
}

func (l *lab) shut() {
	if err := l.Close(context.Background()); err != nil {
		l.Error(err)
	}
}

type testLog struct{ t testing.TB }

func (w testLog) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// seen is what one stream of an action has brought.
type seen struct {
	records []*agentv1.ActionRecord
	out     map[agentv1.Channel][]byte
	gaps    map[agentv1.Channel]uint64
	obs     *agentv1.Observation
	run     action.RunObservation
	process action.ProcessObservation
	broken  string
}

func (s *seen) pty() string    { return string(s.out[agentv1.Channel_CHANNEL_PTY]) }
func (s *seen) stdout() string { return string(s.out[agentv1.Channel_CHANNEL_STDOUT]) }
func (s *seen) stderr() string { return string(s.out[agentv1.Channel_CHANNEL_STDERR]) }

// take checks the order of the events.
func (s *seen) take(e *agentv1.ActionEvent) error {
	if s.out == nil {
		s.out, s.gaps = map[agentv1.Channel][]byte{}, map[agentv1.Channel]uint64{}
	}
	if s.obs != nil {
		s.broken = "an event came after the observation"
	}
	switch ev := e.Event.(type) {
	case *agentv1.ActionEvent_Record:
		s.records = append(s.records, ev.Record)
		return nil
	case *agentv1.ActionEvent_Output:
		o := ev.Output
		if at := uint64(len(s.out[o.Channel])) + s.gaps[o.Channel]; o.Offset != at || len(o.Data) == 0 || len(o.Data) > 64<<10 {
			s.broken = fmt.Sprintf("output of %d bytes at %d, expected at %d", len(o.Data), o.Offset, at)
		}
		s.out[o.Channel] = append(s.out[o.Channel], o.Data...)
	case *agentv1.ActionEvent_Gap:
		s.gaps[ev.Gap.Channel] += ev.Gap.Length
	case *agentv1.ActionEvent_Observation:
		s.obs = ev.Observation
	}
	if len(s.records) != 1 {
		s.broken = "the record did not come first"
	}
	return nil
}

func (s *seen) finish(t testing.TB) *seen {
	t.Helper()
	if s.broken != "" {
		t.Error(s.broken)
	}
	if s.obs == nil {
		t.Fatal("no observation")
	}
	for _, end := range s.obs.GetChannels() {
		if got := uint64(len(s.out[end.Channel])) + s.gaps[end.Channel]; got != end.Length {
			t.Errorf("%v: %d bytes came, the observation says %d", end.Channel, got, end.Length)
		}
	}
	if p := s.obs.GetPayload(); len(p) > 0 {
		var kind struct{ Observation string }
		var err error
		if err = json.Unmarshal(p, &kind); err == nil && kind.Observation == "run" {
			err = json.Unmarshal(p, &s.run)
		} else if err == nil {
			err = json.Unmarshal(p, &s.process)
		}
		if err != nil {
			t.Error(err)
		}
	}
	return s
}

func request(t testing.TB, id string, kind string, payload any, timeout time.Duration) *agentv1.ExecuteRequest {
	t.Helper()
	raw, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	a := &agentv1.Action{Id: id, Kind: kind, Payload: raw}
	if timeout > 0 {
		a.Timeout = durationpb.New(timeout)
	}
	return &agentv1.ExecuteRequest{Action: a}
}

// exec runs an action to its end.
func (l *lab) exec(req *agentv1.ExecuteRequest) *seen {
	l.Helper()
	s := &seen{}
	if err := l.Execute(l.ctx(), req, s.take); err != nil {
		l.Fatal(err)
	}
	return s.finish(l)
}

// ctx ends a test that hangs, before the test binary does.
func (l *lab) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	l.Cleanup(cancel)
	return ctx
}

func (l *lab) runFor(command string, timeout time.Duration) *seen {
	l.Helper()
	return l.exec(request(l, "", action.KindRun, action.Run{Command: command}, timeout))
}

func (l *lab) sh(command string) *seen {
	l.Helper()
	return l.runFor(command, 0)
}

// going is an action that runs in the background of a test.
type going struct {
	*lab
	id   string
	seen *seen
	err  error
	// moved is closed at the first output, done at the end.
	moved, done chan struct{}
}

// start runs an action in the background. It has been recorded when start returns.
func (l *lab) start(req *agentv1.ExecuteRequest) *going {
	l.Helper()
	if req.Action.Id == "" {
		req.Action.Id = action.NewID()
	}
	g := &going{lab: l, id: req.Action.Id, seen: &seen{}, moved: make(chan struct{}), done: make(chan struct{})}
	recorded := make(chan struct{})
	var once, first sync.Once
	go func() {
		defer close(g.done)
		g.err = l.Execute(l.ctx(), req, func(e *agentv1.ActionEvent) error {
			once.Do(func() { close(recorded) })
			if e.GetOutput() != nil {
				first.Do(func() { close(g.moved) })
			}
			return g.seen.take(e)
		})
		once.Do(func() { close(recorded) })
	}()
	<-recorded
	return g
}

func (g *going) wait() *seen {
	g.Helper()
	<-g.done
	if g.err != nil {
		g.Fatal(g.err)
	}
	return g.seen.finish(g)
}

// output waits for the first output.
func (g *going) output() *going {
	g.Helper()
	select {
	case <-g.moved:
	case <-g.done:
		if len(g.seen.out) > 0 { // Both were there.
			return g
		}
		g.Fatalf("it ended without output: %v, %v", g.err, g.seen.obs)
	}
	return g
}

func (g *going) interrupt(level agentv1.InterruptLevel) {
	g.Helper()
	if ok, err := g.Interrupt(g.ctx(), g.id, level); err != nil || !ok {
		g.Fatalf("interrupt: %v %v", ok, err)
	}
}
