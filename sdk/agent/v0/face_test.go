package v0_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/agent/socket"
)

// roleVar makes the test binary an agent.
const roleVar = "OPENHANDS_RT_TEST_AGENT"

const (
	sessionKey = "s3cr3t-session-key"
	credential = "sesame-and-much-more"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) != "" {
		_ = os.Unsetenv(roleVar)
		os.Exit(boot.Main(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// face is an agent in a process of its own, its direct face, and a client of it.
type face struct {
	t         *testing.T
	url       string
	workspace string
	socket    string
	process   *os.Process
	exited    chan struct{}
	web       *http.Client
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newFace starts an agent whose root is the whole machine; its workspace is a folder of the test's.
func newFace(t *testing.T) *face {
	t.Helper()
	f := &face{t: t, workspace: t.TempDir(), socket: filepath.Join(t.TempDir(), "a.sock"), exited: make(chan struct{})}
	state := t.TempDir()
	f.launch(boot.Config{
		Schema: boot.Schema, Socket: f.socket, StateDir: state, Workspace: f.workspace, Home: t.TempDir(), Nonce: "n", SandboxID: "s",
		Credential: credential, Username: "openhands", Lease: boot.Duration(time.Hour), LogFile: filepath.Join(state, "log"),
		Env: map[string]string{"PATH": os.Getenv("PATH"), "LC_ALL": "C.UTF-8"},
	})
	transport := &http.Transport{}
	f.web = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return f
}

// launch starts the process: its key comes by the environment, its address by the arguments.
func (f *face) launch(cfg boot.Config) {
	t := f.t
	configR, configW, err := os.Pipe()
	must(t, err)
	readyR, readyW, err := os.Pipe()
	must(t, err)
	cfg.ReadyFD = 4
	cmd := exec.Command(os.Args[0], "--config-fd=3", "--v0-listen=127.0.0.1:0")
	cmd.Env = append(os.Environ(), roleVar+"=1", "SESSION_API_KEY="+sessionKey)
	cmd.ExtraFiles = []*os.File{configR, readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	f.process = cmd.Process
	go func() {
		defer close(f.exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // so that it ends its tree
		select {
		case <-f.exited:
		case <-time.After(30 * time.Second):
			t.Error("the agent did not end")
			_ = cmd.Process.Kill()
			<-f.exited
		}
	})
	raw, err := json.Marshal(cfg)
	must(t, errors.Join(err, configR.Close(), readyW.Close()))
	_, err = configW.Write(raw)
	must(t, errors.Join(err, configW.Close()))
	line, err := bufio.NewReader(readyR).ReadBytes('\n')
	must(t, errors.Join(err, readyR.Close()))
	ready, err := boot.ParseReady(line)
	must(t, err)
	if f.url = ready.V0Address; f.url == "" {
		t.Fatalf("no V0 address: %s", line)
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// object is the body as a JSON object.
func (a answer) object(t testing.TB) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(a.body, &o); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return o
}

func (a answer) detail(t testing.TB) string {
	t.Helper()
	text, ok := a.object(t)["detail"].(string)
	if !ok {
		t.Fatalf("no detail: %d %s", a.status, a.body)
	}
	return text
}

// send makes a request with the key, unless headers say otherwise.
func (f *face) send(ctx context.Context, method, path string, body io.Reader, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, f.url+path, body)
	must(f.t, err)
	r.Header.Set("X-Session-API-Key", sessionKey)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.web.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, raw}, err
}

func (f *face) do(method, path, body string, headers ...string) answer {
	f.t.Helper()
	a, err := f.send(f.t.Context(), method, path, strings.NewReader(body), headers...)
	must(f.t, err)
	return a
}

// event is a request for an action.
func event(kind string, args map[string]any, timeout any) string {
	e := map[string]any{"action": kind, "args": args}
	if timeout != nil {
		e["timeout"] = timeout
	}
	raw, _ := json.Marshal(map[string]any{"action": e})
	return string(raw)
}

func command(text string) string { return event("run", map[string]any{"command": text}, 120) }

// run executes a command and returns the whole observation and its content.
func (f *face) run(text string) (map[string]any, string) {
	f.t.Helper()
	a := f.do("POST", "/execute_action", command(text))
	if a.status != 200 {
		f.t.Fatalf("%s: %d %s", text, a.status, a.body)
	}
	o := a.object(f.t)
	content, _ := o["content"].(string)
	return o, content
}

// behind asks the agent's own server, below agent.V0Path.
func (f *face) behind(method, path, body, bearer string) answer {
	f.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return socket.Dial(ctx, f.socket) }}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(f.t.Context(), method, "http://agent"+strings.TrimSuffix(agent.V0Path, "/")+path, strings.NewReader(body))
	must(f.t, err)
	r.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := (&http.Client{Transport: transport}).Do(r)
	must(f.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(f.t, err)
	return answer{resp.StatusCode, resp.Header, raw}
}

// fifo makes a named pipe in the workspace, at which a command can be held up.
func (f *face) fifo(name string) string {
	f.t.Helper()
	path := filepath.Join(f.workspace, name)
	must(f.t, syscall.Mkfifo(path, 0o600))
	return path
}

// release writes a line to a pipe; it returns when a command reads it.
func release(t testing.TB, path string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte("go\n"), 0o600))
}

func (f *face) file(name string) string { return filepath.Join(f.workspace, name) }

func (f *face) write(name, content string) {
	f.t.Helper()
	must(f.t, os.MkdirAll(filepath.Dir(f.file(name)), 0o755))
	must(f.t, os.WriteFile(f.file(name), []byte(content), 0o644))
}

func equalJSON(t testing.TB, got []byte, want string) {
	t.Helper()
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		t.Fatalf("%s", got)
	}
	x, _ := json.Marshal(a)
	if y, _ := json.Marshal(b); !bytes.Equal(x, y) {
		t.Errorf("got %s, want %s", got, want)
	}
}
