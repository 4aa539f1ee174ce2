package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func load(t *testing.T, o Options) (*Config, *Provenance) {
	t.Helper()
	o.Environ = append([]string{"HOME=/home/u"}, o.Environ...)
	c, from, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, from
}

func TestDefaultsAreSound(t *testing.T) {
	c, from := load(t, Options{})
	if c.DefaultBackend != "local" || c.Backends["local"].Plugin != "local" || c.Listen != "127.0.0.1:7799" {
		t.Errorf("%+v", c)
	}
	if !filepath.IsAbs(c.DataDir) || c.KeyFile != filepath.Join(c.DataDir, "key") || c.StoreDir() != filepath.Join(c.DataDir, "store") {
		t.Errorf("places: %q, %q", c.DataDir, c.KeyFile)
	}
	if raw, err := json.Marshal(c.Backends["local"].Config); err != nil || string(raw) != "{}" {
		t.Errorf("the plugin is given %s, %v", raw, err)
	}
	if s := from.Of("listen"); s.String() != "default" {
		t.Errorf("source %v", s)
	}
	for _, s := range lifecycle.Statuses() {
		if got := c.Timeouts.StatusLimit(s); got != lifecycle.Limit(s) {
			t.Errorf("%s has the limit %s, the table says %s", s, got, lifecycle.Limit(s))
		}
	}
	if got, want := fmt.Sprint(c.Recovery.Table()), fmt.Sprint(policy.Default()); got != want {
		t.Errorf("recovery %s, want %s", got, want)
	}
}

func TestTheLaterSourceWins(t *testing.T) {
	file := write(t, "listen: 127.0.0.1:1\nsandbox_listen: 127.0.0.1:2\nlog:\n  level: warn\n  format: json\nlimits:\n  queue: 5\n")
	c, from := load(t, Options{
		File:    file,
		Environ: []string{"OPENHANDS_RT_SANDBOX_LISTEN=127.0.0.1:3", "OPENHANDS_RT_LOG_LEVEL=debug", "OPENHANDS_RT_LIMITS__QUEUE=6", "OPENHANDS_RT_METRICS_ENABLED=false"},
		Flags:   map[string]any{"log.level": "trace", "data_dir": "/tmp/d"},
	})
	if c.Listen != "127.0.0.1:1" || c.SandboxListen != "127.0.0.1:3" || c.Log.Level != "trace" || c.Log.Format != "json" || c.Limits.Queue != 6 || c.Metrics.Enabled {
		t.Errorf("%+v", c)
	}
	for path, want := range map[string]string{
		"listen": file + ":1", "log.format": file + ":5", "sandbox_listen": "OPENHANDS_RT_SANDBOX_LISTEN", "log.level": "--log-level",
		"limits.queue": "OPENHANDS_RT_LIMITS__QUEUE", "limits.processes": "default", "data_dir": "--data-dir", "lease": "default",
	} {
		if got := from.Of(path).String(); got != want {
			t.Errorf("%s came from %s, want %s", path, got, want)
		}
	}
	if from.File != file {
		t.Errorf("file %q", from.File)
	}
}

func TestTheFileCanBeNamedByAVariable(t *testing.T) {
	c, _ := load(t, Options{Environ: []string{"OPENHANDS_RT_CONFIG=" + write(t, "lease: 9s"), "OPENHANDS_RT_URL=x", "OPENHANDS_RT_KEY=y", "OPENHANDS_RT_RUNTIME=r", "OPENHANDS_RT_SANDBOX=s"}})
	if c.Lease.Std() != 9*time.Second {
		t.Errorf("lease %s", c.Lease)
	}
}

func TestBackends(t *testing.T) {
	c, _ := load(t, Options{
		File: write(t, `
default_backend: far
fallback_backends: [local]
backends:
  local: {plugin: local, env: {A: b}, env_allow: [PATH], config: {level: process, nested: {list: [1, x, true]}}}
  far:
    command: /opt/far
    sha256: `+strings.Repeat("ab", 32)+`
    connect_timeout: 90s
    credentials: {api_key: {env: FAR_KEY}}
log: {levels: {plugin.far: debug}}
`),
		Environ: []string{"OPENHANDS_RT_BACKENDS__FAR__ENV_ALLOW=A, B", "OPENHANDS_RT_BACKENDS__FAR__CONFIG__REGION=eu"},
	})
	far := c.Backends["far"]
	if far.Command[0] != "/opt/far" || far.ConnectTimeout.Std() != 90*time.Second || far.Credentials["api_key"].Env != "FAR_KEY" {
		t.Errorf("far: %+v", far)
	}
	if fmt.Sprint(far.EnvAllow) != "[A B]" || far.Config["region"] != "eu" {
		t.Errorf("from variables: %+v", far)
	}
	local := c.Backends["local"]
	if fmt.Sprint(local.Config) != "map[level:process nested:map[list:[1 x true]]]" || local.ConnectTimeout != c.Timeouts.Connect {
		t.Errorf("local: %+v", local)
	}
	if c.Log.Levels["plugin.far"] != "debug" {
		t.Errorf("a name with a dot was taken apart: %v", c.Log.Levels)
	}
	if c, _ := load(t, Options{File: write(t, "backends: {one: {plugin: x}}")}); c.DefaultBackend != "one" || len(c.Backends) != 1 {
		t.Errorf("the only backend is not the default: %+v", c)
	}
}

func TestEveryMistakeIsToldWithKeySourceAndRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		yaml    string
		environ []string
		flags   map[string]any
		// want is per problem "field|part of the text|part of the remedy".
		want []string
	}{
		"unknown key":         {yaml: "listne: 1.2.3.4:5", want: []string{"listne|is not a known key (set in FILE:1)|did you mean listen?"}},
		"unknown nested key":  {yaml: "log:\n  levle: info", want: []string{"log.levle|is not a known key (set in FILE:2)|did you mean level?"}},
		"nothing like it":     {yaml: "zzzzzzzzz: 1", want: []string{"zzzzzzzzz|not a known key|known here: data_dir"}},
		"unknown variable":    {environ: []string{"OPENHANDS_RT_LISTE=x"}, want: []string{"OPENHANDS_RT_LISTE|not a known variable|did you mean OPENHANDS_RT_LISTEN?"}},
		"unknown nested var":  {environ: []string{"OPENHANDS_RT_LOG__LEVLE=x"}, want: []string{"log.levle|set in OPENHANDS_RT_LOG__LEVLE|did you mean level?"}},
		"wrong variable":      {environ: []string{"OPENHANDS_RT_LISTEN=nowhere"}, want: []string{`listen|"nowhere" is no address to listen on (set in OPENHANDS_RT_LISTEN)|HOST:PORT`}},
		"wrong flag":          {flags: map[string]any{"log.level": "loud"}, want: []string{`log.level|"loud" is not one of its values (set in --log-level)|use one of trace`}},
		"no unit":             {yaml: "lease: 60", want: []string{"lease|must be text with a unit, not a number|with its unit"}},
		"no duration":         {yaml: "lease: soon", want: []string{`lease|"soon" is no length of time|with its unit`}},
		"out of range":        {yaml: "limits: {max_message: 1KiB, processes: 0}", want: []string{"limits.max_message|1KiB is not from 8MiB to 64MiB|range", "limits.processes|0 is not from 1|range"}},
		"text for number":     {yaml: `limits: {queue: "many"}`, want: []string{"limits.queue|must be a whole number, not text|whole number"}},
		"number for text":     {yaml: "listen: 5", want: []string{"listen|must be text, not a number|quotes"}},
		"text for yes":        {yaml: `metrics: {enabled: "yes"}`, want: []string{"metrics.enabled|must be true or false|true or false"}},
		"value for group":     {yaml: "log: debug", want: []string{"log|must be a group of keys, not text|below it"}},
		"value for map":       {yaml: "backends: [a]", want: []string{"backends|must be a map, not a list|below it"}},
		"map for list":        {yaml: "allowed_hosts: {a: b}", want: []string{"allowed_hosts|must be a list, not a group of keys|as a list"}},
		"list of numbers":     {yaml: "allowed_hosts: [5]", want: []string{"allowed_hosts[0]|must be text, not a number (set in FILE:1)|quotes"}},
		"sandbox url":         {yaml: "sandbox_url: sandboxes.example.org/", want: []string{"sandbox_url|is no such URL|scheme and host alone"}},
		"same listener":       {yaml: "sandbox_listen: 127.0.0.1:7799", want: []string{"sandbox_listen|same as listen|another port"}},
		"no such default":     {yaml: "default_backend: far", want: []string{`default_backend|"far" is not among the backends|name one of local`}},
		"no such fallback":    {yaml: "fallback_backends: [far]", want: []string{`fallback_backends|"far" is not among the backends|name some of local`}},
		"which default":       {yaml: "backends: {a: {plugin: x}, b: {plugin: y}}", want: []string{"default_backend|is needed|name one of a, b"}},
		"two ways to plugin":  {yaml: "backends: {a: {plugin: x, command: /y}}", want: []string{"backends.a|has 2 of plugin|exactly one"}},
		"no way to plugin":    {yaml: "backends: {a: {}}", want: []string{"backends.a|has 0 of plugin|exactly one"}},
		"path as plugin":      {yaml: "backends: {a: {plugin: ./x}}", want: []string{"backends.a.plugin|no short name|use command"}},
		"backend's name":      {yaml: "backends: {A b: {plugin: x}}\ndefault_backend: A b", want: []string{"backends.A b|cannot be a backend's name|a-z"}},
		"plugin's address":    {yaml: "backends: {a: {address: tcp}}", want: []string{`backends.a.address|"tcp" is no address|unix:///path`}},
		"sum":                 {yaml: "backends: {a: {plugin: x, sha256: abc}}", want: []string{"backends.a.sha256|is no SHA-256|64 digits"}},
		"sum of an address":   {yaml: "backends: {a: {address: 'h:1', sha256: " + strings.Repeat("cd", 32) + "}}", want: []string{"backends.a.sha256|says nothing|remove"}},
		"variable's name":     {yaml: "backends: {a: {plugin: x, env: {A=B: c}, env_allow: ['1']}}", want: []string{"backends.a.env.A=B|variable's name|letters", "backends.a.env_allow|variable's name|letters"}},
		"secret in place":     {yaml: "backends: {a: {plugin: x, credentials: {k: {env: 'sk-hidden'}}}}", want: []string{"backends.a.credentials.k.env|cannot be a variable's name|do not put the secret here"}},
		"two credentials":     {yaml: "backends: {a: {plugin: x, credentials: {k: {env: A, file: /b}}}}", want: []string{"backends.a.credentials.k|has 2 of env|exactly one"}},
		"host and origin":     {yaml: "allowed_hosts: ['a b']\nallowed_origins: ['app.example.org']", want: []string{"allowed_hosts|no host name|names", "allowed_origins|no origin|https://"}},
		"level of a part":     {yaml: "log: {levels: {store: loud}}", want: []string{`log.levels.store|"loud" is no level|trace`}},
		"store's URL":         {yaml: "store: {url: 'http://u:hidden@h'}", want: []string{"store.url|is no URL of a NATS server|nats://"}},
		"recovery":            {yaml: "recovery: {network: {delay: 1m, factor: 0.5}}", want: []string{"recovery.network.delay|does not fit a max_delay of 10s|max_delay", "recovery.network.factor|0.5 is not from 1|range"}},
		"syntax":              {yaml: "a: b\n c: d: e", want: []string{"FILE:2|mapping values are not allowed|syntax"}},
		"twice":               {yaml: "listen: a:1\nlisten: b:2", want: []string{`FILE:2|already defined|each of them once`}},
		"no map":              {yaml: "- a\n- b", want: []string{"FILE:1|cannot unmarshal|map of keys"}},
		"several at once":     {yaml: "lease: x\nlisten: 7\nfoo: 1", environ: []string{"OPENHANDS_RT_LOG_LEVEL=x"}, want: []string{"foo||", "lease||", "listen||", "log.level||"}},
		"not JSON":            {yaml: "backends: {a: {plugin: x, config: {f: .inf}}}", want: []string{"backends.a.config|cannot be given to a plugin as JSON|text keys"}},
		"variable in a value": {environ: []string{"OPENHANDS_RT_LISTEN__X=1"}, want: []string{"listen|must be text, not a group of keys|quotes"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Environ: append([]string{"HOME=/home/u"}, c.environ...), Flags: c.flags}
			if c.yaml != "" {
				o.File = write(t, c.yaml)
			}
			_, _, err := Load(o)
			problems, ok := errors.AsType[*Problems](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			if len(problems.List) != len(c.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(problems.List), len(c.want), err)
			}
			for i, e := range problems.List {
				parts := strings.Split(strings.ReplaceAll(c.want[i], "FILE", o.File), "|")
				if e.Reason != rterr.ConfigInvalid || e.Field != parts[0] || !strings.Contains(e.Detail, parts[1]) || !strings.Contains(e.Remedy, parts[2]) || e.Evidence["source"] == "" {
					t.Errorf("problem %d: %s|%s|%s, want %q", i, e.Field, e.Detail, e.Remedy, parts)
				}
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("a secret is repeated: %v", err)
			}
			if !rterr.Is(err, rterr.ConfigInvalid) {
				t.Errorf("the whole is %v", rterr.ReasonOf(err))
			}
		})
	}
}

func TestAFileThatIsNotThere(t *testing.T) {
	_, from, err := Load(Options{File: "/no/such.yaml", Environ: []string{"HOME=/h"}})
	if e := rterr.From(err); e == nil || e.Field != "/no/such.yaml" || from.File != "/no/such.yaml" {
		t.Errorf("%v", err)
	}
}

func TestVariablesOfKeysDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, key := range Keys() {
		name := EnvName(key)
		if other, ok := seen[name]; ok {
			t.Errorf("%s stands for %s and %s", name, other, key)
		}
		if slices.Contains(reservedEnv(), name) {
			t.Errorf("%s is reserved", name)
		}
		seen[name] = key
	}
	if len(seen) < 50 || seen["OPENHANDS_RT_DATA_DIR"] != "data_dir" || seen["OPENHANDS_RT_LOG_LEVEL"] != "log.level" {
		t.Errorf("%v", seen)
	}
}

func TestAllowedVariablesAreNotRead(t *testing.T) {
	_, _, err := Load(Options{Environ: []string{"HOME=/h", "OPENHANDS_RT_TEST_HOOK=1"}, AllowEnv: []string{"OPENHANDS_RT_TEST_HOOK"}})
	if err != nil {
		t.Error(err)
	}
}

func TestWhereTheDataGoes(t *testing.T) {
	for _, c := range []struct {
		env  []string
		uid  int
		want string
	}{
		{[]string{"HOME=/root", "XDG_STATE_HOME=/x"}, 0, "/var/lib/openhands-rt"},
		{[]string{"HOME=/home/u", "XDG_STATE_HOME=/x"}, 1000, "/x/openhands-rt"},
		{[]string{"HOME=/home/u", "XDG_STATE_HOME=relative"}, 1000, "/home/u/.local/state/openhands-rt"},
		{[]string{"HOME=/home/u"}, 1000, "/home/u/.local/state/openhands-rt"},
		{nil, 1000, ""},
	} {
		if got := stateDir(environment{c.env}, c.uid); got != c.want {
			t.Errorf("%v, uid %d: %q, want %q", c.env, c.uid, got, c.want)
		}
	}
	c, _ := load(t, Options{Flags: map[string]any{"data_dir": "~/d", "log.file": "rel.log"}})
	if c.DataDir != "/home/u/d" || !filepath.IsAbs(c.Log.File) {
		t.Errorf("%q, %q", c.DataDir, c.Log.File)
	}
}

func TestMaskedShowsNoSecret(t *testing.T) {
	c, _ := load(t, Options{File: write(t, `
store: {url: "nats://user:hidden@h:4222"}
backends:
  a:
    plugin: x
    env: {TOKEN: hidden, PLAIN: hidden}
    config: {api_key: hidden, nested: {password: hidden, list: [{secret_word: hidden}]}, region: shown}
    credentials: {k: {command: [pass, hidden]}}
`)})
	var b bytes.Buffer
	if err := c.WriteYAML(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hidden") || !strings.Contains(b.String(), "region: shown") || !strings.Contains(b.String(), "@h:4222") {
		t.Errorf("%s", b.String())
	}
	if c.Backends["a"].Env["TOKEN"] != "hidden" || c.Backends["a"].Credentials["k"].Command[1] != "hidden" {
		t.Error("masking changed the configuration itself")
	}
	again, _, err := Load(Options{File: write(t, b.String()), Environ: []string{"HOME=/h"}})
	if err != nil || again.Listen != c.Listen {
		t.Errorf("what was written cannot be read: %v\n%s", err, b.String())
	}
}

// FuzzYAML: no file ends the process; what loads can be shown and loaded again.
func FuzzYAML(f *testing.F) {
	for _, seed := range []string{
		"listen: a:1", "log: {level: debug}", "a: &a [*a]", "? [x]\n: y", "<<: {listen: b:1}", "backends: {a: {config: {1: 2, 2001-01-01: x}}}",
		"{", "lease: 1e3", "limits: {queue: 0x10}", "!!binary x", "backends: {a: &x {plugin: p}, b: *x}\ndefault_backend: a", "\x00", "--- 1\n--- 2", "data_dir: null",
	} {
		f.Add([]byte(seed))
	}
	if raw, err := os.ReadFile(referenceFile); err == nil {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		findings := &findings{from: &Provenance{byPath: map[string]Source{}}}
		l, err := fromYAML("f", data)
		if err != nil {
			if !rterr.Is(err, rterr.ConfigInvalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		c, err := build([]layer{l}, findings, environment{[]string{"HOME=/h"}})
		if err != nil {
			if _, ok := errors.AsType[*Problems](err); !ok {
				t.Fatalf("%v", err)
			}
			return
		}
		if err := c.WriteYAML(&bytes.Buffer{}); err != nil {
			t.Fatalf("%v", err)
		}
	})
}

func TestOnDisconnectIsThePolicysChoice(t *testing.T) {
	for _, choice := range []policy.OnDisconnect{policy.Stay, policy.Recreate} {
		c, _ := load(t, Options{Flags: map[string]any{"on_disconnect": string(choice)}})
		if c.OnDisconnect != string(choice) {
			t.Errorf("%q became %q", choice, c.OnDisconnect)
		}
	}
}
