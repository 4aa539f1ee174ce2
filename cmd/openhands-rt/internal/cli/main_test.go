package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/hosttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

// command is a command under test.
type command struct {
	t       *testing.T
	args    []string
	env     map[string]string
	in      *os.File
	out     *watched
	err     *watched
	signals chan os.Signal
	now     func() time.Time
}

// watched is a writer that can be waited for.
type watched struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
	return w.b.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// wait blocks until text has been written.
func (w *watched) wait(ctx context.Context, text string) bool {
	for {
		w.mu.Lock()
		has, changed := strings.Contains(w.b.String(), text), w.changed
		w.mu.Unlock()
		if has {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func newCommand(t *testing.T, h *hosttest.Host, args ...string) *command {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	c := &command{t: t, args: args, in: null, signals: make(chan os.Signal, 8), env: map[string]string{},
		out: &watched{changed: make(chan struct{})}, err: &watched{changed: make(chan struct{})},
		now: func() time.Time { return hosttest.Created().Add(90 * time.Second) }}
	if h != nil {
		c.env["OPENHANDS_RT_DATA_DIR"] = h.DataDir
	}
	return c
}

// run runs the command to its end.
func (c *command) run() result {
	c.t.Helper()
	environ := []string{"LANG=C"}
	for k, v := range c.env {
		environ = append(environ, k+"="+v)
	}
	code := Main(c.t.Context(), Env{Args: c.args, In: c.in, Out: c.out, Err: c.err, Environ: environ,
		Getenv: func(k string) string { return c.env[k] }, Signals: c.signals, Now: c.now})
	return result{code, c.out.String(), c.err.String()}
}

// start runs the command beside the test.
func (c *command) start() <-chan result {
	done := make(chan result, 1)
	go func() { done <- c.run() }()
	return done
}

func (c *command) signal(s syscall.Signal) { c.signals <- s }

// input gives the command a file as its input.
func (c *command) input(content []byte) *command {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "stdin")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = f.Close() })
	c.in = f
	return c
}

func run(t *testing.T, h *hosttest.Host, args ...string) result {
	t.Helper()
	return newCommand(t, h, args...).run()
}

func (r result) want(t *testing.T, code int, out, errText string) {
	t.Helper()
	if r.code != code || r.out != out || r.err != errText {
		t.Errorf("exit code %d, want %d\nstdout %q\n  want %q\nstderr %q\n  want %q", r.code, code, r.out, out, r.err, errText)
	}
}

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag

// golden compares text with a file under testdata. What differs from run to run is replaced before.
func golden(t *testing.T, name, text string, replace ...string) {
	t.Helper()
	text = strings.NewReplacer(replace...).Replace(text)
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, text, want)
	}
}
