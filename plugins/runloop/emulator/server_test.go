package emulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
)

// client asks an emulator and says what went wrong.
type client struct {
	t *testing.T
	s *emulator.Server
	// headers go with every request.
	headers map[string]string
}

func (c client) do(method, path, body string) (status int, answer map[string]any, header http.Header) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(within(c.t), method, c.s.URL()+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.s.Key())
	for name, value := range c.headers {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, nil
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, nil
	}
	_ = json.Unmarshal(raw, &answer)
	return response.StatusCode, answer, response.Header
}

func (c client) must(method, path, body string) map[string]any {
	c.t.Helper()
	status, answer, _ := c.do(method, path, body)
	if status != http.StatusOK {
		c.t.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return answer
}

func (c client) with(name, value string) client {
	c.headers = map[string]string{name: value}
	return c
}

func (c client) create(body string) string {
	c.t.Helper()
	return c.must(http.MethodPost, "/v1/devboxes/create_and_await_running", body)["id"].(string)
}

func newClient(t *testing.T, config emulator.Config) client {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return client{t: t, s: start(t, config)}
}

func TestReplay(t *testing.T) {
	c := newClient(t, emulator.Config{}).with("X-Request-Id", "one")
	first, second := c.must(http.MethodPost, "/v1/devboxes", ""), c.must(http.MethodPost, "/v1/devboxes", "")
	if first["id"] != second["id"] || c.s.Stats().Created != 1 {
		t.Errorf("made %v and %v", first["id"], second["id"])
	}
	off := newClient(t, emulator.Config{NoReplay: true}).with("X-Request-Id", "one")
	off.must(http.MethodPost, "/v1/devboxes", "")
	off.must(http.MethodPost, "/v1/devboxes", "")
	if off.s.Stats().Created != 2 {
		t.Errorf("%+v", off.s.Stats())
	}
}

func TestDropAfterTheEffect(t *testing.T) {
	c := newClient(t, emulator.Config{}).with("X-Request-Id", "two")
	c.headers["X-Emulator-Fault"] = "drop_after"
	if status, _, _ := c.do(http.MethodPost, "/v1/devboxes", ""); status != 0 {
		t.Fatalf("answered %d", status)
	}
	delete(c.headers, "X-Emulator-Fault")
	if c.must(http.MethodPost, "/v1/devboxes", ""); c.s.Stats().Created != 1 {
		t.Errorf("%+v", c.s.Stats())
	}
}

func TestErrors(t *testing.T) {
	c := newClient(t, emulator.Config{Quota: 1})
	unknown := "dbx_" + strings.Repeat("x", 21)
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodGet, "/v1/devboxes/dbx_nonexistent12345", "", 400},
		{http.MethodGet, "/v1/devboxes/" + unknown, "", 404},
		{http.MethodPost, "/v1/devboxes", `{"blueprint_name":"none"}`, 400},
		{http.MethodPost, "/v1/devboxes", `{"launch_parameters":{"keep_alive_time_seconds":172801}}`, 400},
		{http.MethodPost, "/v1/devboxes", `{`, 400},
		{http.MethodGet, "/v1/devboxes?limit=0", "", 400},
		{http.MethodGet, "/v1/nothing", "", 404},
		{http.MethodPut, "/v1/devboxes", "", 405},
	} {
		if status, answer, _ := c.do(test.method, test.path, test.body); status != test.status || answer["message"] == "" {
			t.Errorf("%s %s: %d %v, want %d", test.method, test.path, status, answer, test.status)
		}
	}
	if status, _, _ := c.with("Authorization", "Bearer wrong").do(http.MethodGet, "/v1/devboxes", ""); status != 401 {
		t.Errorf("a wrong key: %d", status)
	}
	c.create("")
	status, answer, header := c.do(http.MethodPost, "/v1/devboxes", "")
	if status != 429 || answer["error"] != "quota_exceeded" || header.Get("X-Should-Retry") != "false" {
		t.Errorf("over the quota: %d %v", status, answer)
	}
}

func TestFaults(t *testing.T) {
	c := newClient(t, emulator.Config{})
	for fault, want := range map[string]int{"429:delay=2s": 429, "5xx": 503, "expired_key": 401, "drop_before": 0, "nonsense": 400} {
		status, _, header := c.with("X-Emulator-Fault", fault).do(http.MethodGet, "/v1/devboxes", "")
		if status != want {
			t.Errorf("%s: %d, want %d", fault, status, want)
		}
		if want == 429 && header.Get("Retry-After") != "2" {
			t.Errorf("%s: Retry-After %q", fault, header.Get("Retry-After"))
		}
	}
	hits := func() (out string) {
		c.must(http.MethodPost, "/_emulator/faults", `{"faults":"5xx:p=0.5,path=/v1/secrets"}`)
		for range 40 {
			status, _, _ := c.do(http.MethodGet, "/v1/secrets", "")
			out += map[int]string{200: ".", 503: "x"}[status]
		}
		return out
	}
	if one, two := hits(), hits(); one != two || !strings.Contains(one, "x") || !strings.Contains(one, ".") {
		t.Errorf("the same seed: %s and %s", one, two)
	}
}

func TestFailedBoot(t *testing.T) {
	faults, err := emulator.ParseFaults("failed_boot:count=1")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, emulator.Config{Faults: faults})
	d := c.must(http.MethodPost, "/v1/devboxes/create_and_await_running", "")
	if d["status"] != "failure" || d["failure_reason"] != "health_check_failed" {
		t.Errorf("%v", d)
	}
	c.create("")
	if stats := c.s.Stats(); stats.Created != 2 || stats.Alive != 1 {
		t.Errorf("%+v", stats)
	}
}

func FuzzParseFaults(f *testing.F) {
	f.Add("429:p=0.1,count=2,delay=1s;drop_after:path=/v1,method=post")
	f.Fuzz(func(t *testing.T, text string) {
		faults, err := emulator.ParseFaults(text)
		if err == nil && len(faults) > strings.Count(text, ";")+1 {
			t.Errorf("%q gives %v", text, faults)
		}
	})
}
