package editor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// testTree is the tree of all engines of this test process: a walked tree is all descendants of its process.
var testTree = sync.OnceValues(func() (sandbox.Tree, error) { return sandbox.NewTree(sandbox.TreeConfig{}) })

func TestMain(m *testing.M) {
	code := m.Run()
	if tree, err := testTree(); err == nil {
		_, _ = tree.Kill()
		_ = tree.Close()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// lab is an editor under test, behind a real engine.
type lab struct {
	testing.TB
	*Editor
	engine    *engine.Engine
	workspace string
	state     string
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{TB: t, workspace: t.TempDir(), state: t.TempDir()}
	l.open("")
	t.Cleanup(l.shut)
	return l
}

// open starts editor and engine. root confines the editor.
func (l *lab) open(root string) {
	l.Helper()
	tree, err := testTree()
	must(l, err)
	at, err := space.New(root, l.workspace)
	must(l, err)
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	l.Editor, err = New(Config{Space: at, Workspace: l.workspace, StateDir: l.state + "/editor", Logger: log})
	must(l, err)
	l.engine, err = engine.New(engine.Config{StateDir: l.state + "/engine", Workspace: l.workspace, Tree: tree, Kinds: l.Kinds(),
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.workspace, "LANG=C.UTF-8"}, Logger: log})
	must(l, err)
}

func (l *lab) shut() { must(l, l.engine.Close(context.Background())) }

// content runs an action and returns its content.
func (l *lab) content(kind string, payload any) string {
	l.Helper()
	o := l.do(kind, payload)
	var c struct{ Content string }
	if o.GetError() != nil {
		return "FAILED: " + o.GetError().GetMessage()
	}
	must(l, json.Unmarshal(o.GetPayload(), &c))
	return c.Content
}

// args are those of an edit action.
type args map[string]any

func (l *lab) command(name, path string, more args) string {
	l.Helper()
	a := args{"command": name, "path": path}
	for k, v := range more {
		a[k] = v
	}
	return l.content(action.KindEdit, a)
}
