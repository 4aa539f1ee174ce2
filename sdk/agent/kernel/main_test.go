package kernel

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// testTree is the tree of all kernels of this test process: a walked tree is all descendants of its process.
var testTree = sync.OnceValues(func() (sandbox.Tree, error) { return sandbox.NewTree(sandbox.TreeConfig{}) })

func TestMain(m *testing.M) {
	code := m.Run()
	if tree, err := testTree(); err == nil {
		if left, err := tree.Kill(); err != nil || left > 0 {
			fmt.Fprintf(os.Stderr, "%d processes were left behind (%v)\n", left, err)
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

// base is the interpreter that scripts/python has prepared.
func base(t testing.TB) string {
	t.Helper()
	path := os.Getenv("TEST_PYTHON")
	if path == "" {
		path, _ = filepath.Abs("../../../bin/python/bin/python3")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("there is no Python with ipykernel; → scripts/python")
	}
	return path
}

// lab is a kernel under test.
type lab struct {
	testing.TB
	*Kernel
}

func testConfig(t testing.TB) Config {
	t.Helper()
	tree, err := testTree()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	return Config{Dir: filepath.Join(t.TempDir(), "kernel"), Venv: filepath.Join(home, "venv"), Workspace: t.TempDir(), Tree: tree,
		Env:    []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8"},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: testLog{t}})}
}

func newLab(t testing.TB, change ...func(*Config)) *lab {
	t.Helper()
	cfg := testConfig(t)
	cfg.Python = base(t)
	for _, f := range change {
		f(&cfg)
	}
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &lab{TB: t, Kernel: k}
}

type testLog struct{ t testing.TB }

func (w testLog) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// run runs a cell to its end and returns its result; what was written meanwhile must be what the result says.
func (l *lab) run(cell Cell) Result {
	l.Helper()
	return l.runIn(l.Context(), cell)
}

func (l *lab) runIn(ctx context.Context, cell Cell) Result {
	l.Helper()
	var out bytes.Buffer
	res, err := l.Execute(ctx, cell, &out)
	if err != nil {
		l.Fatalf("%q: %v", cell.Code, err)
	}
	if out.String() != res.Text && res.Text != noOutput && !strings.Contains(res.Text, truncated) {
		l.Errorf("%q: written was %q, the result is %q", cell.Code, out.String(), res.Text)
	}
	return res
}

// code runs a cell that must end by itself and returns its text.
func (l *lab) code(code string) string {
	l.Helper()
	res := l.run(Cell{Code: code})
	if res.End != Completed {
		l.Errorf("%q has ended as %d: %q", code, res.End, res.Text)
	}
	return res.Text
}

// expect runs cells whose texts must be as given.
func (l *lab) expect(cells ...[2]string) {
	l.Helper()
	for _, c := range cells {
		if got := l.code(c[0]); got != c[1] {
			l.Errorf("%q:\n got %q\nwant %q", c[0], got, c[1])
		}
	}
}

// find fails unless a text has all parts.
func (l *lab) find(text string, parts ...string) {
	l.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			l.Errorf("%q is not in %q", p, text)
		}
	}
}
