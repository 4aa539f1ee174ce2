package boot

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestV0KeyComesByEnvironmentOrFile(t *testing.T) {
	dir := t.TempDir()
	config, keyFile := filepath.Join(dir, "config"), filepath.Join(dir, "key")
	must(t, os.WriteFile(keyFile, []byte("from-file\n"), 0o600))
	for name, c := range map[string]struct {
		inConfig, inEnv string
		args            []string
		listen, key     string
		field           string
	}{
		"none":                  {listen: ""},
		"a key and no listener": {inEnv: "from-env", listen: ""},
		"environment":           {inEnv: "from-env", args: []string{"--v0-listen", ":0"}, listen: ":0", key: "from-env"},
		"file over environment": {inEnv: "from-env", args: []string{"--v0-listen=:0", "--v0-key-file", keyFile}, listen: ":0", key: "from-file"},
		"config":                {inConfig: ":1", listen: ":1", key: "from-config"},
		"flag over config":      {inConfig: ":1", inEnv: "from-env", args: []string{"--v0-listen", ":2"}, listen: ":2", key: "from-env"},
		"no key":                {args: []string{"--v0-listen", ":0"}, field: "v0_key"},
		"a key with a space":    {inEnv: "from env", args: []string{"--v0-listen", ":0"}, field: "v0_key"},
		"no address":            {inEnv: "from-env", args: []string{"--v0-listen", "nowhere"}, field: "v0_listen"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := valid()
			if c.inConfig != "" {
				cfg.V0Listen, cfg.V0Key = c.inConfig, "from-config"
			}
			raw, err := json.Marshal(cfg)
			must(t, errors.Join(err, os.WriteFile(config, raw, 0o600)))
			t.Setenv(v0KeyVar, c.inEnv)
			got, err := configFromArgs(append([]string{"--config", config}, c.args...))
			if c.field != "" {
				if e := rterr.From(err); e == nil || e.Field != c.field || strings.Contains(e.Error(), "from") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || got.V0Listen != c.listen || got.V0Key != c.key {
				t.Errorf("%q %q %v", got.V0Listen, got.V0Key, err)
			}
			if _, left := os.LookupEnv(v0KeyVar); left {
				t.Error("the key is still in the environment")
			}
		})
	}
	if _, err := configFromArgs([]string{"--config", config, "--v0-listen", ":0", "--v0-key-file", filepath.Join(dir, "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestDirectListenerFollowsTheSandbox(t *testing.T) {
	cfg := roleConfig(t)
	cfg.V0Listen, cfg.V0Key = "127.0.0.1:0", "session-key"
	r, err := begin(t, cfg)
	must(t, err)
	web := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(web.CloseIdleConnections)
	ask := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, r.ready.V0Address+path, strings.NewReader(body))
		must(t, err)
		req.Header.Set("X-Session-API-Key", cfg.V0Key)
		resp, err := web.Do(req)
		must(t, err)
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(raw)
	}
	run := `{"action":{"action":"run","args":{"command":"echo $SESSION_API_KEY."}}}`
	if status, body := ask("POST", "/execute_action", run); status != 200 || !strings.Contains(body, `"content":"."`) {
		t.Errorf("%d %s", status, body)
	}
	c := r.client(t)
	_, err = c.Freeze(t.Context(), &agentv1.FreezeRequest{})
	must(t, err)
	for _, request := range [][3]string{{"GET", "/alive", ""}, {"POST", "/execute_action", run}} {
		if status, body := ask(request[0], request[1], request[2]); status != 503 || !strings.HasPrefix(body, `{"detail":"`) {
			t.Errorf("%s: %d %s", request[1], status, body)
		}
	}
	_, err = c.Thaw(t.Context(), &agentv1.ThawRequest{})
	must(t, err)
	if status, body := ask("POST", "/execute_action", run); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	_, err = c.Shutdown(t.Context(), &agentv1.ShutdownRequest{})
	must(t, err)
	if code := r.end(t); code != ExitOK {
		t.Errorf("exit %d", code)
	}
	if _, err := web.Get(r.ready.V0Address + "/alive"); err == nil {
		t.Error("the listener is open")
	}
}

func TestNoDirectListenerIsLeftBehind(t *testing.T) {
	cfg := roleConfig(t)
	taken, _, err := listenTCP("127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	cfg.V0Listen, cfg.V0Key = taken.Addr().String(), "session-key"
	if _, err := begin(t, cfg); !rterr.Is(err, rterr.Network) {
		t.Errorf("%v", err)
	}
}
