package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service answers requests in turn by a script, the last one for ever.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	script []http.HandlerFunc
	seen   []*http.Request
	bodies []string
}

func serve(t *testing.T, script ...http.HandlerFunc) *service {
	s := &service{script: script}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.seen, s.bodies = append(s.seen, r), append(s.bodies, string(body))
		answer := s.script[min(len(s.seen)-1, len(s.script)-1)]
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *service) client(t *testing.T) *Client {
	t.Helper()
	c, err := New(Config{BaseURL: s.URL, UserAgent: "test/1", Retries: 4, Delay: time.Millisecond, MaxDelay: 4 * time.Millisecond}, "ak_one")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// says answers with a status, headers and a body.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// drops closes the connection without an answer.
func drops(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

const devbox = `{"id":"dbx_1","status":"running","create_time_ms":1,"end_time_ms":null,"metadata":{},"launch_parameters":{},"capabilities":[],"state_transitions":[]}`

func TestEveryTryOfACallHasOneRequestIDAndTheKey(t *testing.T) {
	s := serve(t, says(503, `{"message":"warming up"}`), drops, says(429, `{}`, "Retry-After", "0.001"), says(200, devbox))
	c := s.client(t)
	if err := c.KeepAlive(t.Context(), "dbx_1"); err != nil {
		t.Fatal(err)
	}
	if err := c.KeepAlive(t.Context(), "dbx_1"); err != nil {
		t.Fatal(err)
	}
	all := s.requests()
	if len(all) != 5 {
		t.Fatalf("%d requests, want 5", len(all))
	}
	first := all[0].Header.Get("X-Request-Id")
	for i, r := range all {
		if r.Header.Get("Authorization") != "Bearer ak_one" || r.Header.Get("User-Agent") != "test/1" {
			t.Errorf("request %d has the headers %v", i, r.Header)
		}
		if same := r.Header.Get("X-Request-Id") == first; first == "" || same != (i < 4) {
			t.Errorf("request %d has the id %q, the first one %q", i, r.Header.Get("X-Request-Id"), first)
		}
	}
	if got := all[3].Header.Get("X-Stainless-Retry-Count"); got != "3" {
		t.Errorf("the fourth try says it is repeat %q", got)
	}
}

func TestGetHasNoRequestID(t *testing.T) {
	s := serve(t, says(200, devbox))
	if _, err := s.client(t).Retrieve(t.Context(), "dbx_1"); err != nil {
		t.Fatal(err)
	}
	if id := s.requests()[0].Header.Get("X-Request-Id"); id != "" {
		t.Errorf("it has %q", id)
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		first http.HandlerFunc
		tries int
	}{
		{"408", says(408, `{}`), 2}, {"409", says(409, `{}`), 2}, {"429", says(429, `{}`), 2}, {"500", says(500, `{}`), 2},
		{"502", says(502, `<html>`), 2}, {"dropped", drops, 2},
		{"400", says(400, `{}`), 1}, {"401", says(401, `{}`), 1}, {"403", says(403, `{}`), 1}, {"404", says(404, `{}`), 1},
		{"422", says(422, `{}`), 1},
		{"503, no", says(503, `{}`, "X-Should-Retry", "false"), 1}, {"400, yes", says(400, `{}`, "x-should-retry", "true"), 2},
		{"429 for a quota", says(429, `{"message":"devbox quota exceeded"}`), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.first, says(200, devbox))
			_, err := s.client(t).Retrieve(t.Context(), "dbx_1")
			if n := len(s.requests()); n != c.tries || (err == nil) != (c.tries == 2) {
				t.Errorf("%d tries, want %d: %v", n, c.tries, err)
			}
		})
	}
}

func TestWhatMayHaveHadItsEffectIsLeftToTheCaller(t *testing.T) {
	for _, c := range []struct {
		name      string
		first     http.HandlerFunc
		tries     int
		uncertain bool
	}{
		{"dropped", drops, 1, true}, {"500", says(500, `{}`), 1, true}, {"429", says(429, `{}`), 2, false}, {"400", says(400, `{}`), 1, false},
		{"cut in the answer", says(200, `{"id":`, "Content-Length", "100"), 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.first, says(200, devbox))
			_, err := s.client(t).Create(t.Context(), "one", api.DevboxCreateParameters{})
			if n := len(s.requests()); n != c.tries || Uncertain(err) != c.uncertain {
				t.Errorf("%d tries, want %d; uncertain %v: %v", n, c.tries, Uncertain(err), err)
			}
			if id := s.requests()[0].Header.Get("X-Request-Id"); id != "one" {
				t.Errorf("the request's id is %q", id)
			}
		})
	}
	c, err := New(Config{BaseURL: "http://127.0.0.1:1", Retries: 1, Delay: time.Millisecond, MaxDelay: time.Millisecond}, "ak")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Create(t.Context(), "one", api.DevboxCreateParameters{}); Uncertain(err) || !rterr.Is(err, rterr.Network) {
		t.Errorf("nothing was reached: %v", err)
	}
}

func TestErrorsHaveRunloopsOwnWords(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   rterr.Reason
	}{
		{400, `{"error":"bad_request","message":"unknown blueprint"}`, rterr.InvalidArgument},
		{401, `{"message":"Invalid API key"}`, rterr.Unauthenticated},
		{402, `{"message":"pay"}`, rterr.QuotaExceeded},
		{403, `{"message":"read only key"}`, rterr.PermissionDenied},
		{403, `{"error":"quota_exceeded","message":"3 running devboxes"}`, rterr.QuotaExceeded},
		{404, `{"message":"no such devbox"}`, rterr.NotFound},
		{408, `{"message":"stalled"}`, rterr.Timeout},
		{409, `{"message":"snapshots in progress"}`, rterr.IllegalState},
		{429, `{"message":"slow down"}`, rterr.RateLimited},
		{500, `{"message":"oops"}`, rterr.Provider},
		{503, `plain words`, rterr.Unavailable},
	} {
		s := serve(t, says(c.status, c.body, "X-Runloop-Request-Id", "req_7", "X-Should-Retry", "false"))
		_, err := s.client(t).Retrieve(t.Context(), "dbx_1")
		e := rterr.From(err)
		if e.Reason != c.want || e.Evidence["runloop_request_id"] != "req_7" || e.Evidence["status"] == "" {
			t.Errorf("%d %s: %v %v %v", c.status, c.body, e.Reason, e, e.Evidence)
		}
		if !strings.Contains(c.body, e.Evidence["runloop_reason"]) || e.Evidence["runloop_reason"] == "" {
			t.Errorf("%d: the reason is %q", c.status, e.Evidence["runloop_reason"])
		}
	}
}

func TestAttemptsAreReported(t *testing.T) {
	s := serve(t, says(503, `{}`))
	_, err := s.client(t).Retrieve(t.Context(), "dbx_1")
	if got := rterr.From(err).Evidence["attempts"]; got != "5" || !rterr.From(err).Retryable {
		t.Errorf("attempts %q: %v", got, err)
	}
}

func TestTriesStayWithinTheDeadline(t *testing.T) {
	s := serve(t, says(429, `{}`, "Retry-After", "50"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.client(t).Retrieve(ctx, "dbx_1")
	if !rterr.Is(err, rterr.Timeout, rterr.RateLimited) || len(s.requests()) != 1 {
		t.Errorf("%d requests: %v", len(s.requests()), err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := s.client(t).Retrieve(ctx, "dbx_1"); !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTheKeyOfTheNextTryIsTheNewOne(t *testing.T) {
	var c *Client
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		c.SetKey("ak_two")
		w.WriteHeader(503)
	}, says(200, devbox))
	c = s.client(t)
	if _, err := c.Retrieve(t.Context(), "dbx_1"); err != nil {
		t.Fatal(err)
	}
	if got := s.requests()[1].Header.Get("Authorization"); got != "Bearer ak_two" {
		t.Errorf("it is sent with %q", got)
	}
}

func TestNeitherLogsNorErrorsHaveTheKey(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, says(500, `{"message":"oops"}`))
	c, err := New(Config{BaseURL: s.URL, Retries: 2, Delay: time.Millisecond, MaxDelay: time.Millisecond,
		Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})}, "ak_secret_one")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Retrieve(t.Context(), "dbx_1")
	all, _ := json.Marshal(rterr.From(err))
	if log.Len() == 0 || strings.Contains(log.String()+string(all)+err.Error(), "ak_secret") {
		t.Errorf("log %q, error %s", log.String(), all)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	other := serve(t, says(200, devbox))
	s := serve(t, says(302, "", "Location", other.URL))
	if _, err := s.client(t).Retrieve(t.Context(), "dbx_1"); err == nil || len(other.requests()) > 0 {
		t.Errorf("%d requests went elsewhere: %v", len(other.requests()), err)
	}
}

func TestWaitTakes408AsNotYet(t *testing.T) {
	s := serve(t, says(408, `{"error":"timeout"}`, "X-Should-Retry", "true"), says(200, devbox))
	c := s.client(t)
	if view, err := c.Wait(t.Context(), "dbx_1", time.Second, api.DevboxStatusRunning); view != nil || err != nil {
		t.Errorf("%v, %v", view, err)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests for one wait", n)
	}
	if view, err := c.Wait(t.Context(), "dbx_1", time.Second, api.DevboxStatusRunning); err != nil || view.Status != api.DevboxStatusRunning {
		t.Errorf("%v, %v", view, err)
	}
	if got := s.bodies[1]; !strings.Contains(got, `"statuses":["running"]`) || !strings.Contains(got, `"timeout_seconds":1`) {
		t.Errorf("it asked %s", got)
	}
}

func TestShutdownOfWhatIsNotThere(t *testing.T) {
	for _, answer := range []http.HandlerFunc{says(404, `{}`), says(400, `{"message":"Devbox not found"}`)} {
		if view, err := serve(t, answer).client(t).Shutdown(t.Context(), "dbx_1"); view != nil || err != nil {
			t.Errorf("%v, %v", view, err)
		}
	}
	if _, err := serve(t, says(400, `{"message":"no"}`)).client(t).Shutdown(t.Context(), "dbx_1"); err == nil {
		t.Error("another 400 is a success")
	}
}

const ranDone = `{"devbox_id":"d","execution_id":"e","status":"completed","exit_status":3,"stdout":"out\n","stderr":"err\n"}`

func TestRunSendsACommandOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []http.HandlerFunc
		paths  []string
	}{
		{"at once", []http.HandlerFunc{says(200, ranDone)}, []string{"execute"}},
		{"later", []http.HandlerFunc{
			says(200, `{"devbox_id":"d","execution_id":"e","status":"running"}`), says(408, `{}`), says(200, ranDone),
		}, []string{"execute", "wait", "wait"}},
		{"dropped after the effect", []http.HandlerFunc{drops, says(200, ranDone)}, []string{"execute", "look"}},
		{"dropped before the effect", []http.HandlerFunc{drops, says(404, `{}`), says(200, ranDone)}, []string{"execute", "look", "execute"}},
		{"a wait is dropped", []http.HandlerFunc{
			says(200, `{"devbox_id":"d","execution_id":"e","status":"running"}`), drops, says(200, ranDone),
		}, []string{"execute", "wait", "wait"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.script...)
			got, err := s.client(t).Run(t.Context(), "dbx_1", "true")
			if err != nil || got != (Execution{Exit: 3, Stdout: "out\n", Stderr: "err\n"}) {
				t.Errorf("%+v, %v", got, err)
			}
			var paths, ids []string
			for i, r := range s.requests() {
				switch {
				case strings.HasSuffix(r.URL.Path, "/execute"):
					var body struct {
						ID uuid.UUID `json:"command_id"`
					}
					if err := json.Unmarshal([]byte(s.bodies[i]), &body); err != nil || body.ID.Version() != 7 {
						t.Errorf("the command's id is %v: %v", body.ID, err)
					}
					paths, ids = append(paths, "execute"), append(ids, body.ID.String()+" "+r.Header.Get("X-Request-Id"))
				case strings.HasSuffix(r.URL.Path, "/wait_for_status"):
					paths = append(paths, "wait")
				default:
					paths = append(paths, "look")
				}
			}
			if !slices.Equal(paths, c.paths) || len(slices.Compact(ids)) != 1 {
				t.Errorf("requests %q, want %q; ids %q", paths, c.paths, ids)
			}
		})
	}
}

func TestUploadSendsTheWholeBodyAgain(t *testing.T) {
	s := serve(t, drops, says(200, `{}`))
	if err := s.client(t).Upload(t.Context(), "dbx_1", "/home/user/f", []byte("a\x00b\xff")); err != nil {
		t.Fatal(err)
	}
	if s.bodies[0] != s.bodies[1] || !strings.Contains(s.bodies[1], "a\x00b\xff") || !strings.Contains(s.bodies[1], "/home/user/f") {
		t.Errorf("the bodies are %q", s.bodies)
	}
}

func TestCompressedAnswersAreRead(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("gzip is not accepted")
		}
		_, _ = io.WriteString(w, devbox)
	})
	if _, err := s.client(t).Retrieve(t.Context(), "dbx_1"); err != nil {
		t.Error(err)
	}
}
