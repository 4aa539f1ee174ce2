package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// remote is OpenHands' side of the runtime API.
type remote struct {
	t        *testing.T
	url, key string
}

func (d *daemon) remote() *remote {
	d.t.Helper()
	url, _, key := d.endpoint()
	return &remote{t: d.t, url: url, key: key}
}

// object is a JSON object.
type object = map[string]any

func (o *remote) call(method, path string, body any) (int, object) {
	o.t.Helper()
	code, text := o.raw(method, path, body)
	out := object{}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		o.t.Errorf("%s %s: %d %q is no object", method, path, code, text)
	}
	return code, out
}

func (o *remote) raw(method, path string, body any) (int, string) {
	o.t.Helper()
	text := ""
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			o.t.Fatal(err)
		}
		text = string(raw)
	}
	return ask(o.t, method, o.url+path, text, "X-API-Key", o.key)
}

// serverCommand is what OpenHands 0.62 sends; extra flags come behind.
func serverCommand(extra ...string) []string {
	return append([]string{"/openhands/micromamba/bin/micromamba", "run", "-n", "openhands", "poetry", "run", "python", "-u", "-m",
		"openhands.runtime.action_execution_server", "60000", "--working-dir", "/workspace", "--plugins", "agent_skills", "jupyter", "vscode",
		"--username", "openhands", "--user-id", "1000", "--no-enable-browser"}, extra...)
}

func startBody(sid string) object {
	return object{
		"image": "any", "command": serverCommand(), "working_dir": "/openhands/code/", "session_id": sid, "resource_factor": 1,
		"environment": object{"DEBUG": "true", "NO_CHANGE_TIMEOUT_SECONDS": "30"}, "runtime_class": "sysbox-runc",
	}
}

// session is a started runtime.
type session struct {
	t            *testing.T
	id, url, key string
	client       *http.Client
}

// begin starts a session and waits until it is ready, as the original's client does.
func (o *remote) begin(sid string) *session {
	o.t.Helper()
	code, started := o.call(http.MethodPost, "/start", startBody(sid))
	if code != http.StatusOK {
		o.t.Fatalf("start: %d %v", code, started)
	}
	s := &session{t: o.t, id: text(started, "runtime_id"), url: text(started, "url"), key: text(started, "session_api_key"), client: &http.Client{}}
	o.t.Cleanup(s.client.CloseIdleConnections)
	o.waitReady(s)
	return s
}

func (o *remote) waitReady(s *session) {
	o.t.Helper()
	var last object
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		code, now := o.call(http.MethodGet, "/runtime/"+s.id, nil)
		last = now
		switch text(now, "pod_status") {
		case "ready":
			if code, body := s.get("/alive"); code != http.StatusOK {
				o.t.Fatalf("ready, and /alive is %d %s", code, body)
			}
			return
		case "failed", "unknown", "crashloopbackoff":
			o.t.Fatalf("%d %v", code, now)
		}
		time.Sleep(20 * time.Millisecond) // the protocol has nothing to wait on but time
	}
	o.t.Fatalf("not ready: %v", last)
}

func text(o object, key string) string {
	s, _ := o[key].(string)
	return s
}

func (s *session) headers() []string {
	return []string{"X-Session-API-Key", s.key, "X-API-Key", "the daemon's", "Accept", "*/*"}
}

func (s *session) get(path string) (int, string) {
	s.t.Helper()
	return ask(s.t, http.MethodGet, s.url+path, "", s.headers()...)
}

func (s *session) post(path, body string) (int, string) {
	s.t.Helper()
	return ask(s.t, http.MethodPost, s.url+path, body, s.headers()...)
}

// action sends an event and returns the observation.
func (s *session) action(kind string, args object, timeout ...float64) object {
	s.t.Helper()
	code, body := s.post("/execute_action", event(kind, args, timeout...))
	out := object{}
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != http.StatusOK {
		s.t.Fatalf("%s %v: %d %s", kind, args, code, body)
	}
	return out
}

func event(kind string, args object, timeout ...float64) string {
	e := object{"action": kind, "args": args}
	if len(timeout) > 0 {
		e["timeout"] = timeout[0]
	}
	raw, _ := json.Marshal(object{"action": e}) // plain maps
	return string(raw)
}

func (s *session) run(command string) object {
	s.t.Helper()
	return s.action("run", object{"command": command}, 60)
}

// content is what a command printed; it must have succeeded.
func (s *session) content(command string) string {
	s.t.Helper()
	obs := s.run(command)
	if obs["observation"] != "run" || obs["success"] != true {
		s.t.Fatalf("%s: %v", command, obs)
	}
	return text(obs, "content")
}

// errRetry is what remains when every retry of the original's client has failed.
var errRetry = errors.New("all retries have failed") //nolint:gochecknoglobals // a constant

// pauses are the waits of the original's inner and outer retries: 4, 4, 4, 8 and 4, 4 seconds, a hundred times quicker.
const pauseUnit = 40 * time.Millisecond

// execute is the original's rule: a connection that was closed without an answer is tried five times, and all of that three times
// where the network failed. A status is an answer, and ends it.
func (s *session) execute(body string) (string, error) {
	var err error
	for outer := range 3 {
		if outer > 0 {
			time.Sleep(pauseUnit)
		}
		var answer string
		if answer, err = s.inner(body); err == nil || !network(err) {
			return answer, err
		}
	}
	return "", errors.Join(errRetry, err)
}

func (s *session) inner(body string) (string, error) {
	var err error
	for try := range 5 {
		if try > 0 {
			time.Sleep(pauseUnit * time.Duration(max(1, try/2)))
		}
		var answer string
		if answer, err = s.once(body); err == nil || !closedUnanswered(err) {
			return answer, err
		}
	}
	return "", errors.Join(errRetry, err)
}

// closedUnanswered is httpx' RemoteProtocolError; network its NetworkError.
func closedUnanswered(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "server closed idle connection")
}

func network(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE)
}

// once sends a request a single time: nothing in Go's client repeats a POST without a way to read its body again.
func (s *session) once(body string) (string, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/execute_action", io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return "", err
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Session-API-Key", s.key)
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, answer)
	}
	return string(answer), err
}

// multipartBody is a form with one file, and fields.
func multipartBody(name, content string, fields map[string]string) (body, contentType string) {
	var b bytes.Buffer
	const boundary = "openhands-rt-e2e"
	for key, value := range fields {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", boundary, key, value)
	}
	if name != "" {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q; filename=%q\r\n\r\n%s\r\n", boundary, name, name+".bin", content)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.String(), "multipart/form-data; boundary=" + boundary
}

// readKept is what a file has, empty if it is not there.
func readKept(path string) string {
	raw, _ := os.ReadFile(path)
	return string(raw)
}
