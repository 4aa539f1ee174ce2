package workspace

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// tree holds the processes of all boxes of this test process.
var tree = sync.OnceValues(func() (sandbox.Tree, error) { return sandbox.NewTree(sandbox.TreeConfig{}) })

func TestMain(m *testing.M) {
	code := m.Run()
	if held, err := tree(); err == nil {
		if left, err := held.Kill(); err != nil || left > 0 {
			fmt.Fprintf(os.Stderr, "%d processes were left behind (%v)\n", left, err)
			code = max(code, 1)
		}
		_ = held.Close()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// box is one runtime with the agent's own engine in it: a real bash, real processes, real git. It is the Runtimes of its Steps.
type box struct {
	t         *testing.T
	engine    *engine.Engine
	workspace string
	home      string
	features  []string
	steps     *Steps

	mu sync.Mutex
	// stages are the stages that were set up, each with its end.
	stages []string
	// told is everything that a journal, an event or a log could get to see of actions.
	told strings.Builder
	ran  []string
}

func newBox(t *testing.T) *box {
	t.Helper()
	held, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, workspace: t.TempDir(), home: t.TempDir()}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + b.home, "LANG=C.UTF-8", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=n", "GIT_AUTHOR_EMAIL=e@x",
		"GIT_COMMITTER_NAME=n", "GIT_COMMITTER_EMAIL=e@x",
	}
	b.engine, err = engine.New(engine.Config{StateDir: t.TempDir(), Workspace: b.workspace, Tree: held, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	b.steps = New(b)
	return b
}

// Get knows one runtime.
func (b *box) Get(_ context.Context, ref string) (*runtimev1.Runtime, error) {
	if ref != "r" {
		return nil, rterr.New(rterr.NotFound, "", "no runtime %q", ref)
	}
	return &runtimev1.Runtime{Id: "r", Workspace: b.workspace, Home: b.home, SessionKey: "key"}, nil
}

// HasFeature reports the box's own.
func (b *box) HasFeature(_ context.Context, _, feature string) (bool, error) {
	return slices.Contains(b.features, feature), nil
}

// Execute runs an action in the engine.
func (b *box) Execute(ctx context.Context, _ string, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	b.mu.Lock()
	b.ran = append(b.ran, req.GetAction().GetId())
	b.tell("%s %s\n", req.GetAction().GetId(), action.Summary(req.GetAction()))
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{ctx: ctx, cancel: cancel, events: make(chan *agentv1.ActionEvent), failed: make(chan error, 1)}
	go func() {
		s.failed <- b.engine.Execute(ctx, req, func(ev *agentv1.ActionEvent) error {
			b.mu.Lock()
			b.tell("%s\n", prototext.Format(ev))
			b.mu.Unlock()
			select {
			case s.events <- ev:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return s, nil
}

func (b *box) tell(format string, args ...any) { fmt.Fprintf(&b.told, format, args...) }

// Interrupt signals an action.
func (b *box) Interrupt(ctx context.Context, _, id string, level agentv1.InterruptLevel) (bool, error) {
	return b.engine.Interrupt(ctx, id, level)
}

// SetUp writes down the stage.
func (b *box) SetUp(ctx context.Context, _ string, stage runtime.Stage, message string, do func(context.Context) error) error {
	name := map[runtime.Stage]string{runtime.StageWorkspace: "workspace", runtime.StageGitHooks: "hooks"}[stage]
	err := do(context.WithoutCancel(ctx))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell("%s %v\n", message, err)
	if err != nil {
		name += " failed"
	}
	b.stages = append(b.stages, name)
	return err
}

type stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	events chan *agentv1.ActionEvent
	failed chan error
}

func (s *stream) Recv() (*agentv1.ActionEvent, error) {
	select {
	case ev := <-s.events:
		return ev, nil
	case err := <-s.failed:
		if err == nil {
			err = io.EOF
		}
		return nil, err
	}
}

func (s *stream) Close() error { s.cancel(); return nil }

// shell runs a command in the box's shell, with the outcome whatever it is.
func (b *box) shell(command string, change ...func(*agentv1.Action)) *action.RunObservation {
	b.t.Helper()
	a, err := action.New(action.KindRun, action.Run{Command: command, Blocking: true, Hidden: true}, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range change {
		c(a)
	}
	obs := &action.RunObservation{}
	err = b.engine.Execute(b.t.Context(), &agentv1.ExecuteRequest{Action: a}, func(ev *agentv1.ActionEvent) error {
		if o := ev.GetObservation(); o != nil {
			return json.Unmarshal(o.GetPayload(), obs)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return obs
}

// occupy leaves a command running in the shell.
func (b *box) occupy() {
	b.shell("sleep 1000", func(a *agentv1.Action) {
		a.Timeout = durationpb.New(1)
		a.Digest = ""
	})
	b.t.Cleanup(func() { b.engine.Active() })
}

// git runs git as a person in the box would, and fails the test if it fails.
func (b *box) git(dir string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join(b.workspace, dir)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + b.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=n", "GIT_AUTHOR_EMAIL=e@x",
		"GIT_COMMITTER_NAME=n", "GIT_COMMITTER_EMAIL=e@x",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// write makes files, each with its folders.
func (b *box) write(files map[string]string) {
	b.t.Helper()
	for name, text := range files {
		path := filepath.Join(b.workspace, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// noTrace fails the test if anything that is kept of actions, or a file below the folders, has one of the secrets.
func (b *box) noTrace(secrets []string, folders ...string) {
	b.t.Helper()
	b.mu.Lock()
	told := b.told.String()
	b.mu.Unlock()
	for _, secret := range secrets {
		if at := strings.Index(told, secret); at >= 0 {
			b.t.Errorf("a secret was told: %s", told[max(at-200, 0):at+len(secret)])
		}
	}
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil //nolint:nilerr // what cannot be read has no secret for others
			}
			text, _ := os.ReadFile(path)
			for _, secret := range secrets {
				if strings.Contains(string(text), secret) {
					b.t.Errorf("a secret is in %s", path)
				}
			}
			return nil
		})
	}
}

// want checks the reason of an error.
func want(t *testing.T, err error, reason rterr.Reason, field string) {
	t.Helper()
	if e := rterr.From(err); e == nil || e.Reason != reason || e.Field != field {
		t.Errorf("%v (%s, field %q), want %s, field %q", err, rterr.ReasonOf(err), rterr.From(err).Field, reason, field)
	}
}

// asInput sends a command to what runs in the shell.
func asInput(a *agentv1.Action) {
	a.Payload = []byte(strings.TrimSuffix(string(a.GetPayload()), "}") + `,"is_input":true}`)
	a.Digest = ""
}

// timeZero is a time that no file has by itself.
func timeZero() time.Time { return time.Unix(1_000_000_000, 0) }
