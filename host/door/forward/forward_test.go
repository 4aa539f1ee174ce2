package forward

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

func TestTarget(t *testing.T) {
	for _, c := range []struct{ base, path, want string }{
		{"http://agent", "/files", "http://agent/files?q=1"},
		{"http://agent/", "/files", "http://agent/files?q=1"},
		{"http://h:1/tunnel/x", "/ports/80/a%2Fb/", "http://h:1/tunnel/x/ports/80/a%2Fb/?q=1"},
		{"http://agent", "/ports/80/", "http://agent/ports/80/?q=1"},
	} {
		base, err := url.Parse(c.base)
		if err != nil {
			t.Fatal(err)
		}
		if got := target(base, c.path, "q=1").String(); got != c.want {
			t.Errorf("%s + %s: %s, want %s", c.base, c.path, got, c.want)
		}
	}
}

// reached is a sandbox that says what reached it.
type reached struct {
	runtime.Files
	server *httptest.Server
}

func (r reached) HTTP() (http.RoundTripper, *url.URL) {
	u, _ := url.Parse(r.server.URL)
	return r.server.Client().Transport, u
}

func TestNoKeyReachesASandbox(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer server.Close()
	r := httptest.NewRequest(http.MethodPost, "/x/ports/80/?a=b", strings.NewReader("body"))
	for _, name := range append(SecretHeaders(), "X-Other") {
		r.Header.Set(name, "value")
	}
	rec := httptest.NewRecorder()
	(&Forwarder{Fail: rthttp.Write}).Forward(rec, r, reached{server: server}, "/ports/80/")
	if got == nil || got.URL.String() != "/ports/80/?a=b" || got.Header.Get("X-Other") != "value" {
		t.Fatalf("%d, %v", rec.Code, got)
	}
	for _, name := range SecretHeaders() {
		if got.Header.Get(name) != "" {
			t.Errorf("%s got through", name)
		}
	}
}

func TestASandboxThatDoesNotAnswerIsABadGateway(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	rec := httptest.NewRecorder()
	f := &Forwarder{Fail: rthttp.Write}
	f.Forward(rec, httptest.NewRequest(http.MethodGet, "/", nil), reached{server: server}, "/files")
	if rec.Code != http.StatusBadGateway || !strings.Contains(rec.Body.String(), "REASON_SANDBOX_UNREACHABLE") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}
