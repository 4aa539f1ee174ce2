package boot

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const secret = "a-credential-of-some-length"

func valid() Config {
	return Config{
		Schema: Schema, Socket: "/run/x/agent.sock", StateDir: "/var/x", Workspace: "/workspace", Home: "/home/u", Username: "u",
		SandboxID: "s-1", RuntimeID: "r-1", Generation: 3, Nonce: "n-1", Credential: secret, Env: map[string]string{"A": "b"},
		Lease: Duration(30 * time.Second), LogLevel: "debug", ReadyFD: 4,
	}
}

func encode(t testing.TB, c any) string {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestConfigRoundTrips(t *testing.T) {
	raw := encode(t, valid())
	if !strings.Contains(raw, `"lease":"30s"`) {
		t.Errorf("durations are not for people: %s", raw)
	}
	got, err := ConfigFromReader(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(valid(), got); diff != "" {
		t.Error(diff)
	}
}

func TestConfigNamesTheField(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		field  string
	}{
		"schema":           {func(c *Config) { c.Schema = 2 }, "schema"},
		"no address":       {func(c *Config) { c.Socket = "" }, "socket"},
		"both addresses":   {func(c *Config) { c.Listen = "127.0.0.1:0" }, "socket"},
		"relative socket":  {func(c *Config) { c.Socket = "a.sock" }, "socket"},
		"listen":           {func(c *Config) { c.Socket, c.Listen = "", "nonsense" }, "listen"},
		"state":            {func(c *Config) { c.StateDir = "" }, "state_dir"},
		"workspace":        {func(c *Config) { c.Workspace = "w" }, "workspace"},
		"home":             {func(c *Config) { c.Home = "" }, "home"},
		"root":             {func(c *Config) { c.Root = "r" }, "root"},
		"cgroup":           {func(c *Config) { c.Cgroup = "r" }, "cgroup"},
		"limits":           {func(c *Config) { c.LimitGroups = []string{"/ok", "r"} }, "limit_groups[1]"},
		"log":              {func(c *Config) { c.LogFile = "r" }, "log_file"},
		"level":            {func(c *Config) { c.LogLevel = "loud" }, "log_level"},
		"credential":       {func(c *Config) { c.Credential = "short" }, "credential"},
		"credential line":  {func(c *Config) { c.Credential = secret + "\n" }, "credential"},
		"nonce":            {func(c *Config) { c.Nonce = "" }, "nonce"},
		"sandbox":          {func(c *Config) { c.SandboxID = "" }, "sandbox_id"},
		"lease":            {func(c *Config) { c.Lease = -1 }, "lease"},
		"ttl":              {func(c *Config) { c.RecordTTL = -1 }, "record_ttl"},
		"stdout":           {func(c *Config) { c.ReadyFD = 1 }, "ready_fd"},
		"env name":         {func(c *Config) { c.Env = map[string]string{"A=B": ""} }, "env"},
		"env value":        {func(c *Config) { c.Env = map[string]string{"A": "\x00"} }, "env"},
		"no change":        {func(c *Config) { c.Env = map[string]string{noChangeVariable: "soon"} }, "env"},
		"no change at all": {func(c *Config) { c.Env = map[string]string{noChangeVariable: "0"} }, "env"},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			tc.change(&c)
			_, err := ConfigFromReader(strings.NewReader(encode(t, c)))
			e := rterr.From(err)
			if e == nil || e.Reason != rterr.ConfigInvalid || e.Field != tc.field {
				t.Errorf("%v, field %q", err, rterr.From(err).Field)
			}
		})
	}
}

func TestConfigDecoderRefusesWithoutQuoting(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":       "",
		"no JSON":       `{"schema":1,"credential":"` + secret,
		"wrong type":    `{"schema":1,"credential":["` + secret + `"]}`,
		"unknown field": `{"schema":1,"credentials":"` + secret + `"}`,
		"bad duration":  `{"schema":1,"lease":"` + secret + `"}`,
		"newer schema":  `{"schema":2,"something":"` + secret + `"}`,
		"too large":     `{"schema":1,"credential":"` + strings.Repeat(secret, maxConfig/len(secret)) + `"}`,
		"trailing":      encode(t, valid()) + `{"credential":"` + secret + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ConfigFromReader(strings.NewReader(raw))
			if !rterr.Is(err, rterr.ConfigInvalid) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v", err)
			}
		})
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(encode(f, valid()))
	f.Add(`{"schema":1,"lease":"1h","env":{"A":"B"}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := ConfigFromReader(strings.NewReader(raw))
		if err != nil {
			if !rterr.Is(err, rterr.ConfigInvalid) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := ConfigFromReader(strings.NewReader(encode(t, c)))
		if err != nil || encode(t, again) != encode(t, c) {
			t.Errorf("does not round-trip: %v", err)
		}
	})
}

func TestEnviron(t *testing.T) {
	c := valid()
	want := []string{"A=b", "HOME=/home/u", "LOGNAME=u", "PATH=" + defaultPath, "USER=u"}
	if diff := cmp.Diff(want, c.environ()); diff != "" {
		t.Error(diff)
	}
	c.Env = map[string]string{"PATH": "/bin", "HOME": "/h"}
	c.Username = ""
	if diff := cmp.Diff([]string{"HOME=/h", "PATH=/bin"}, c.environ()); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironInherits(t *testing.T) {
	t.Setenv("GIVEN", "by the provider")
	t.Setenv("A", "of the provider")
	t.Setenv("HOME", "/elsewhere")
	c := valid()
	if slices.Contains(c.environ(), "GIVEN=by the provider") {
		t.Error("the agent's own environment reaches its sandbox")
	}
	c.InheritEnv = true
	for _, want := range []string{"GIVEN=by the provider", "A=b", "HOME=/home/u"} {
		if !slices.Contains(c.environ(), want) {
			t.Errorf("no %s in %q", want, c.environ())
		}
	}
}

func TestNoChangeTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		env, listen string
		want        time.Duration
	}{
		"never":       {"", "", 0},
		"of V0":       {"", "127.0.0.1:0", 10 * time.Second},
		"as it says":  {" 30 ", "", 30 * time.Second},
		"also for V0": {"1", "127.0.0.1:0", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{V0Listen: c.listen}
			if c.env != "" {
				cfg.Env = map[string]string{noChangeVariable: c.env}
			}
			if got, err := cfg.noChangeTimeout(); got != c.want || err != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestReadyLine(t *testing.T) {
	if _, err := ParseReady([]byte("")); !rterr.Is(err, rterr.Internal) {
		t.Error(err)
	}
	if _, err := ParseReady([]byte(`{"pid":1,"error":{"reason":"REASON_UNSUPPORTED","message":"no cgroup"}}`)); !rterr.Is(err, rterr.Unsupported) {
		t.Error(err)
	}
	if r, err := ParseReady([]byte(`{"pid":1,"address":"unix:///a"}`)); err != nil || r.PID != 1 || r.Address != "unix:///a" {
		t.Error(r, err)
	}
}
