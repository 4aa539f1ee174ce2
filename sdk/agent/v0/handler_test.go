package v0

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// inside is a handler on a real engine in this process, whose inside can be looked at.
type inside struct {
	t   *testing.T
	h   *Handler
	url string
	dir string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newInside(t *testing.T, change ...func(*Config)) *inside {
	t.Helper()
	dir := t.TempDir()
	tree, err := sandbox.NewTree(sandbox.TreeConfig{})
	must(t, err)
	e, err := engine.New(engine.Config{StateDir: t.TempDir(), Workspace: dir, Env: []string{"PATH=" + os.Getenv("PATH")}, Tree: tree})
	must(t, err)
	service, err := files.New(files.Config{Workspace: dir})
	must(t, err)
	cfg := Config{Executor: e, Files: service}
	for _, c := range change {
		c(&cfg)
	}
	h, err := New(cfg)
	must(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		must(t, e.Close(context.WithoutCancel(t.Context())))
		h.Close()
		http.DefaultClient.CloseIdleConnections()
		server.Close()
		_, err := tree.Kill()
		must(t, errors.Join(err, tree.Close(), service.Close()))
	})
	return &inside{t: t, h: h, url: server.URL, dir: dir}
}

// send makes a request; the answer's body is read.
func (in *inside) send(ctx context.Context, method, path, body string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, in.url+path, strings.NewReader(body))
	must(in.t, err)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

func runBody(command string) string {
	return `{"action":{"action":"run","args":{"command":"` + command + `","blocking":true}}}`
}

// begin sends a command in the background and waits until it runs, or until it is the nth to wait.
func (in *inside) begin(ctx context.Context, command string, nth int) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, _, err := in.send(ctx, "POST", PathExecuteAction, runBody(command))
		done <- err
	}()
	for in.h.turns.waiting() < nth {
		_, _, err := in.send(in.t.Context(), "GET", PathAlive, "")
		must(in.t, err)
	}
	return done
}

func (in *inside) fifo(name string) string {
	path := filepath.Join(in.dir, name)
	must(in.t, syscall.Mkfifo(path, 0o600))
	return path
}

func TestPoint13InTheOrderOfArrival(t *testing.T) {
	in := newInside(t)
	began, gate := in.fifo("began"), in.fifo("gate")
	all := []<-chan error{in.begin(t.Context(), "echo > "+began+"; read x < "+gate, 0)}
	_, err := os.ReadFile(began)
	must(t, err)
	for i, name := range []string{"c", "a", "d", "b"} {
		all = append(all, in.begin(t.Context(), "echo "+name+" >> order", i+1))
	}
	must(t, os.WriteFile(gate, []byte("go\n"), 0o600))
	for _, done := range all {
		must(t, <-done)
	}
	if raw, err := os.ReadFile(filepath.Join(in.dir, "order")); err != nil || string(raw) != "c\na\nd\nb\n" {
		t.Errorf("%q %v", raw, err)
	}
}

func TestAWaitingActionWhoseClientHasGoneIsNotRun(t *testing.T) {
	in := newInside(t)
	began, gate := in.fifo("began"), in.fifo("gate")
	first := in.begin(t.Context(), "echo > "+began+"; read x < "+gate, 0)
	_, err := os.ReadFile(began)
	must(t, err)
	ctx, cut := context.WithCancel(t.Context())
	gone := in.begin(ctx, "echo never > effect", 1)
	cut()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for in.h.turns.waiting() > 0 {
		_, _, err := in.send(t.Context(), "GET", PathAlive, "")
		must(t, err)
	}
	must(t, os.WriteFile(gate, []byte("go\n"), 0o600))
	must(t, <-first)
	status, body, err := in.send(t.Context(), "POST", PathExecuteAction, runBody("cat effect"))
	if err != nil || status != 200 || !strings.Contains(body, "No such file") {
		t.Errorf("%d %s %v", status, body, err)
	}
}

func TestCloseAnswersWhatWaits(t *testing.T) {
	in := newInside(t)
	began, gate := in.fifo("began"), in.fifo("gate")
	first := in.begin(t.Context(), "echo > "+began+"; read x < "+gate, 0)
	_, err := os.ReadFile(began)
	must(t, err)
	second := in.begin(t.Context(), "echo never", 1)
	in.h.Close()
	must(t, errors.Join(<-first, <-second)) // answered, not cut
	status, body, err := in.send(t.Context(), "POST", PathExecuteAction, runBody("echo never"))
	if err != nil || status != 500 || !strings.HasPrefix(body, `{"detail":"Internal server error: `) {
		t.Errorf("%d %s %v", status, body, err)
	}
	must(t, os.WriteFile(gate, []byte("go\n"), 0o600))
}

func TestASandboxThatIsAwayAnswers503(t *testing.T) {
	in := newInside(t, func(c *Config) {
		c.Ready = func() error { return rterr.New(rterr.SandboxPaused, "", "the sandbox is frozen") }
	})
	for method, paths := range map[string][]string{"GET": {PathAlive, PathDownloadFiles, PathConnectionToken}, "POST": {PathExecuteAction, PathListFiles, PathUploadFile}} {
		for _, path := range paths {
			status, body, err := in.send(t.Context(), method, path, runBody("true"))
			if err != nil || status != 503 || !strings.Contains(body, `"detail":"`) {
				t.Errorf("%s: %d %s %v", path, status, body, err)
			}
		}
	}
	if status, _, err := in.send(t.Context(), "GET", PathServerInfo, ""); err != nil || status != 200 {
		t.Errorf("%d %v", status, err)
	}
}

// broken is an executor with a fault.
type broken func() error

func (b broken) Execute(context.Context, *agentv1.ExecuteRequest, func(*agentv1.ActionEvent) error) error {
	return b()
}

func TestFaultsAreAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		fault broken
		want  string
	}{
		"a panic":        {func() error { panic("boom") }, `{"detail":"An unexpected error occurred. Please try again later."}`},
		"no observation": {func() error { return nil }, `{"detail":"Internal server error: execute run: it ended without an observation"}`},
		"an error":       {func() error { return errors.New("boom") }, `{"detail":"Internal server error: boom"}`},
	} {
		in := newInside(t, func(cfg *Config) { cfg.Executor = c.fault })
		for range 2 { // the turn is given back
			status, body, err := in.send(t.Context(), "POST", PathExecuteAction, runBody("true"))
			if err != nil || status != 500 || body != c.want {
				t.Errorf("%s: %d %s %v", name, status, body, err)
			}
		}
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	for field, cfg := range map[string]Config{"executor": {}, "files": {Executor: broken(nil)}} {
		if _, err := New(cfg); rterr.From(err).Field != field {
			t.Error(err)
		}
	}
}

func FuzzDecodeList(f *testing.F) {
	f.Add(`{"path":"/x"}`)
	f.Add(`{"path":null}`)
	f.Add(`{"path":["x"]}`)
	f.Fuzz(func(t *testing.T, body string) {
		_, err := decodeList(strings.NewReader(body))
		if f, ok := errors.AsType[*Failure](err); err != nil && (!ok || f.Status != 422) {
			t.Error(err)
		}
		if r := UpdateMCP([]byte(body)); r.Status == 200 && !strings.HasPrefix(strings.TrimSpace(body), "[") {
			t.Errorf("%s", r.Body)
		}
	})
}
