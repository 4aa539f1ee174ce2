package auth

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMintKeyOnceAndKeepItSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	first, err := MintKey(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := MintKey(file)
	if err != nil || second != first {
		t.Errorf("second start: %q, %v, want the first key", second, err)
	}
	if st, _ := os.Stat(file); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := MintKey(file); !rterr.Is(err, rterr.ConfigInvalid) {
		t.Errorf("a key that all can read was taken: %v", err)
	}
}

func TestRequire(t *testing.T) {
	var ring Keyring
	ring.Add(Hash("k1"), runtime.Principal{ID: "p1"})
	ring.Add(Hash("k2"), runtime.Principal{ID: "p2"})
	h := ring.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := runtime.PrincipalFrom(r.Context())
		_, _ = w.Write([]byte(p.ID))
	}))
	for name, c := range map[string]struct {
		header, value string
		code          int
		body          string
	}{
		"x-api-key":   {KeyHeader, "k1", 200, "p1"},
		"bearer":      {"Authorization", "bearer k2", 200, "p2"},
		"wrong":       {KeyHeader, "k3", 401, ""},
		"none":        {"X-Other", "k1", 401, ""},
		"empty":       {"Authorization", "Bearer ", 401, ""},
		"basic":       {"Authorization", "Basic k1", 401, ""},
		"key's start": {KeyHeader, "k", 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set(c.header, c.value)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code != c.code || (c.body != "" && rec.Body.String() != c.body) {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		})
	}
}

func TestOrigins(t *testing.T) {
	h := Origins([]string{"rt.example"}, []string{"https://ui.example"}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for name, c := range map[string]struct {
		host, origin string
		code         int
	}{
		"loopback":         {"127.0.0.1:7799", "", 200},
		"ipv6":             {"[::1]:7799", "", 200},
		"named":            {"rt.example:7799", "", 200},
		"rebinding":        {"evil.example:7799", "", 403},
		"same origin":      {"localhost:7799", "http://localhost:7799", 200},
		"allowed origin":   {"localhost:7799", "https://ui.example", 200},
		"foreign origin":   {"localhost:7799", "https://evil.example", 403},
		"other port":       {"localhost:7799", "http://localhost:8000", 403},
		"sandboxed origin": {"localhost:7799", "null", 403},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code != c.code {
				t.Errorf("%d, want %d: %s", rec.Code, c.code, rec.Body)
			}
		})
	}
}
