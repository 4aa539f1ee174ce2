package host

import (
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/host/auth"
	"github.com/openhands-rt/openhands-rt/host/config"
	"github.com/openhands-rt/openhands-rt/host/door/openhands"
	"github.com/openhands-rt/openhands-rt/host/runtime"
)

// TestPoint14ConnectionsAreKeptLongerThanClientsKeepThem: httpx drops idle connections after 5 seconds, and sends again what meets a
// connection that the server has dropped.
func TestPoint14ConnectionsAreKeptLongerThanClientsKeepThem(t *testing.T) {
	var ring auth.Keyring
	door := openhands.New(openhands.Options{Keys: func(key string) (runtime.Principal, bool) { return ring.Lookup(key) }, Logger: hclog.NewNullLogger()})
	defer door.Close()
	s := newSandboxServer(door, http.NotFoundHandler(), hclog.NewNullLogger())
	if s.IdleTimeout < time.Minute || s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Errorf("idle %v, read %v, write %v: connections may be dropped without an answer", s.IdleTimeout, s.ReadTimeout, s.WriteTimeout)
	}
	if !s.Protocols.HTTP1() || s.Protocols.UnencryptedHTTP2() || s.Protocols.HTTP2() || s.ConnContext == nil {
		t.Errorf("protocols %v: what hides connections must be off", s.Protocols)
	}
}

func TestSandboxURL(t *testing.T) {
	l, err := listen(t.Context(), "sandbox_listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := &host{cfg: &config.Config{}, sandbox: l}
	if got := h.sandboxURL(); got != "http://"+l.Addr().String() {
		t.Errorf("%s", got)
	}
	h.cfg.SandboxURL = "https://sandboxes.example.org"
	if got := h.sandboxURL(); got != "https://sandboxes.example.org" {
		t.Errorf("%s", got)
	}
}
