package openhands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type noMetrics struct{}

func (noMetrics) Repeated() {}

// door is one without runtimes, for what needs none; the others' tests are in cmd/openhands-rt/e2e, with real sandboxes.
func door(t *testing.T) *Door {
	t.Helper()
	d := New(Options{
		Keys:    func(key string) (runtime.Principal, bool) { return runtime.Principal{ID: "p"}, key == "secret" },
		Metrics: noMetrics{}, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(d.Close)
	return d
}

func ask(t *testing.T, d *Door, method, path string, body io.Reader, headers ...string) (int, map[string]any) {
	t.Helper()
	mux := http.NewServeMux()
	d.Register(mux)
	r := httptest.NewRequest(method, path, body)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	out := map[string]any{}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Errorf("%s %s: %d %q is no object", method, path, w.Code, w.Body)
	}
	return w.Code, out
}

func TestEverythingButHealthIsBehindAKey(t *testing.T) {
	d := door(t)
	for _, c := range []string{
		"POST /start", "POST /pause", "POST /resume", "POST /stop", "GET /sessions/batch", "GET /sessions/x", "GET /runtime/x", "GET /list",
		"GET /registry_prefix", "GET /image_exists", "POST /build", "GET /build_status",
	} {
		method, path, _ := strings.Cut(c, " ")
		for _, key := range []string{"", "wrong"} {
			if code, body := ask(t, d, method, path, nil, "X-API-Key", key); code != http.StatusUnauthorized || body["detail"] == "" {
				t.Errorf("%s with %q: %d %v", c, key, code, body)
			}
		}
	}
	if code, body := ask(t, d, http.MethodGet, "/health", nil); code != http.StatusOK || body["status"] != "ok" {
		t.Errorf("%d %v", code, body)
	}
	if code, _ := ask(t, d, http.MethodGet, "/registry_prefix", nil, "Authorization", "Bearer secret"); code != http.StatusOK {
		t.Errorf("as a bearer: %d", code)
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	d := door(t)
	for _, c := range []struct{ call, body string }{
		{"POST /start", "no JSON"}, {"POST /start", `[]`}, {"POST /start", `{"session_id": 1}`}, {"POST /stop", `{"runtime_id": 1}`},
		{"POST /pause", `"x"`}, {"POST /resume", `{`}, {"GET /image_exists", ""}, {"GET /build_status", ""},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		code, got := ask(t, d, method, path, strings.NewReader(c.body), "X-API-Key", "secret")
		if detail, isText := got["detail"].(string); code != http.StatusBadRequest || !isText || detail == "" {
			t.Errorf("%s %s: %d %v", c.call, c.body, code, got)
		}
	}
	if code, _ := ask(t, d, http.MethodPost, "/start", strings.NewReader(`{"image": "`+strings.Repeat("x", maxBody)+`"}`), "X-API-Key", "secret"); code != http.StatusBadRequest {
		t.Errorf("a body that is too large: %d", code)
	}
	if code, _ := ask(t, d, http.MethodGet, "/build_status?build_id=other", nil, "X-API-Key", "secret"); code != http.StatusNotFound {
		t.Errorf("an unknown build: %d", code)
	}
}

// form is a multipart body that is made as it is read.
func form(size int64) (io.Reader, string) {
	const boundary = "b"
	head := "--b\r\nContent-Disposition: form-data; name=\"target_image\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"context\"; filename=\"c\"\r\n\r\n"
	return io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, size), strings.NewReader("\r\n--b--\r\n")), "multipart/form-data; boundary=" + boundary
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestABuildIsReadToItsEndAndBounded(t *testing.T) {
	const limit = 1 << 20
	for name, c := range map[string]struct {
		size int64
		code int
	}{"small": {limit / 2, http.StatusOK}, "too large": {limit, http.StatusRequestEntityTooLarge}} {
		t.Run(name, func(t *testing.T) {
			body, kind := form(c.size)
			counted := &counter{Reader: body}
			r := httptest.NewRequest(http.MethodPost, "/build", counted)
			r.Header.Set("Content-Type", kind)
			w := httptest.NewRecorder()
			build(w, r, limit)
			if w.Code != c.code {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if counted.n < c.size || counted.n > limit+1<<10 {
				t.Errorf("%d bytes were read", counted.n)
			}
		})
	}
}

func TestABuildWithoutItsParts(t *testing.T) {
	d := door(t)
	for _, kind := range []string{"application/json", "multipart/form-data", "multipart/form-data; boundary=other", ""} {
		body, _ := form(1)
		if code, got := ask(t, d, http.MethodPost, "/build", body, "X-API-Key", "secret", "Content-Type", kind); code != http.StatusBadRequest {
			t.Errorf("%q: %d %v", kind, code, got)
		}
	}
	incomplete := "--b\r\nContent-Disposition: form-data; name=\"context\"\r\n\r\nx\r\n--b--\r\n"
	if code, _ := ask(t, d, http.MethodPost, "/build", strings.NewReader(incomplete), "X-API-Key", "secret", "Content-Type", "multipart/form-data; boundary=b"); code != http.StatusBadRequest {
		t.Errorf("without a target: %d", code)
	}
}

type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

func FuzzBuild(f *testing.F) {
	f.Add("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"context\"\r\n\r\nx\r\n--b--\r\n")
	f.Add("multipart/form-data", "")
	f.Fuzz(func(_ *testing.T, kind, body string) {
		r := httptest.NewRequest(http.MethodPost, "/build", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		build(httptest.NewRecorder(), r, 1<<20)
	})
}

// TestWhereARuntimeStands is the table of both generations' words, as far as no sandbox has to be asked.
func TestWhereARuntimeStands(t *testing.T) {
	d := door(t)
	status := func(name string) backendv1.RuntimeStatus {
		return backendv1.RuntimeStatus(backendv1.RuntimeStatus_value["RUNTIME_STATUS_"+name])
	}
	for _, c := range []struct{ status, phase, want, pod string }{
		{"STOPPED", "GONE", "stopped", "not found"},
		{"STARTING_RUNTIME", "CREATING", "starting", "pending"},
		{"BUILDING_RUNTIME", "CREATING", "starting", "pending"},
		{"RUNTIME_STARTED", "RUNNING", "starting", "pending"},
		{"READY", "PAUSED", "paused", "not found"},
		{"ERROR", "RUNNING", "error", "failed"},
		{"ERROR_RUNTIME_DISCONNECTED", "RUNNING", "starting", "running"},
		{"ERROR_RUNTIME_DISCONNECTED", "PAUSED", "paused", "not found"},
		{"ERROR_RUNTIME_DISCONNECTED", "GONE", "error", "failed"},
		{"ERROR_RUNTIME_DISCONNECTED", "FAILED", "error", "failed"},
	} {
		v := &runtimev1.Runtime{
			Id: "r1", Status: status(c.status), Phase: backendv1.Phase(backendv1.Phase_value["PHASE_"+c.phase]),
			Error: &agentv1.ErrorDetail{Message: "because"}, Generation: 3,
		}
		o := d.object(context.Background(), v)
		if o.Status != c.want || o.PodStatus != c.pod || o.RestartCount != 2 || len(o.RestartReasons) != 1 {
			t.Errorf("%s, %s: %+v, want %s and %s", c.status, c.phase, o, c.want, c.pod)
		}
		if c.want == "error" && o.PodLogs != "because" {
			t.Errorf("%s, %s: logs %q", c.status, c.phase, o.PodLogs)
		}
		raw, err := json.Marshal(o)
		if err != nil || strings.Contains(string(raw), "null") {
			t.Errorf("%s, %v", raw, err)
		}
	}
}

func TestRestartsAreCountedFromTheSecondSandbox(t *testing.T) {
	d := door(t)
	for generation, want := range map[uint64]uint64{0: 0, 1: 0, 2: 1} {
		o := d.object(context.Background(), &runtimev1.Runtime{Generation: generation, Status: backendv1.RuntimeStatus_RUNTIME_STATUS_STOPPED})
		if o.RestartCount != want {
			t.Errorf("generation %d: %d restarts", generation, o.RestartCount)
		}
	}
}

func TestPathsThatLeadElsewhereAreNotClean(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/list_files": true, "/mcp/sse": true, "/work-1/a%20b/": true, "/work-1/a%2Fb": true, "/a/..b": true,
		"/..": false, "/../files": false, "/%2e%2e/files": false, "/a/%2E%2E%2Ffiles": false, "//files": false, "/a//b": false, "/./a": false,
		"/a/.": false, "/a\\..\\b": false, "/%zz": false,
	} {
		if got := clean(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("/a/../b")
	f.Add("/%2e%2e/x")
	f.Fuzz(func(t *testing.T, path string) {
		if clean(path) && (strings.Contains(path, "/../") || strings.HasSuffix(path, "/..")) {
			t.Errorf("%q is taken", path)
		}
	})
}

func TestBelowTheAgent(t *testing.T) {
	for path, want := range map[string]string{
		"/list_files": "/v0/list_files", "/": "/v0/", "/work-1": "/ports/12000", "/work-1/a/b": "/ports/12000/a/b", "/work-2/": "/ports/12001/",
		"/work-10/x": "/v0/work-10/x", "/mcp/sse": "/v0/mcp/sse",
	} {
		if got := below(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestErrorsAreObjectsWithADetail(t *testing.T) {
	for _, err := range []error{
		rterr.New(rterr.NotFound, "", "x"), rterr.Invalid("start", "sid", "y"), rterr.New(rterr.LimitExceeded, "", "z"),
		rterr.New(rterr.IllegalState, "pause", "not now").WithRemedy("wait"), fmt.Errorf("a plain one"),
	} {
		w := httptest.NewRecorder()
		refuse(w, err)
		var got problem
		if json.Unmarshal(w.Body.Bytes(), &got) != nil || got.Detail == "" || w.Code < 400 {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
}
