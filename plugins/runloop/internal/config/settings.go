package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Settings are a checked Config with its defaults.
type Settings struct {
	Config

	// Port of the agent, 0 for a free one.
	Port int
	// LeaseFor is the lease of who asks for none. KeepAliveFor is zero where it follows the lease.
	LeaseFor, KeepAliveFor time.Duration
	// Retries, RetryDelay and RetryMax bound the repeats of a request.
	Retries              int
	RetryDelay, RetryMax time.Duration
	// Attach: a kept devbox of the same sid is taken.
	Attach bool
}

// The defaults: those of the real service.
const (
	defaultBase     = "https://api.runloop.ai"
	defaultPort     = 4444
	defaultVSCode   = 4445
	defaultLease    = 10 * time.Minute
	defaultRetries  = 5
	defaultDelay    = 500 * time.Millisecond
	defaultMaxDelay = 10 * time.Second
	// maxKeepAlive is the API's own limit.
	maxKeepAlive = 172800 * time.Second
)

const op = "configure runloop backend"

// Invalid is the refusal of a key.
func Invalid(key, detail string, args ...any) *rterr.Error {
	return rterr.New(rterr.ConfigInvalid, op, detail, args...).WithField(key).WithRan(rterr.RanNo)
}

// Schema returns the JSON Schema (2020-12) of Config.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{DoNotReference: true, Anonymous: true}
	return json.Marshal(r.Reflect(&Config{}))
}

// The variables that stand in for base_url and tunnel_url: the first is that of the vendor's own clients.
const (
	envBase   = "RUNLOOP_BASE_URL"
	envTunnel = "RUNLOOP_TUNNEL_TEMPLATE"
)

// Parse reads a JSON object; empty means all defaults. Addresses that it does not name are those of the environment, then the real
// ones. Errors are ConfigInvalid with the path of the key.
func Parse(raw []byte, getenv func(string) string) (Settings, error) {
	var c Config
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := decode(raw, &c); err != nil {
			return Settings{}, err
		}
	}
	if c.BaseURL == "" {
		c.BaseURL, c.TunnelURL = orElse(getenv(envBase), defaultBase), orElse(c.TunnelURL, getenv(envTunnel))
	}
	return c.settings()
}

// Merge returns the settings with the keys of a JSON object put over them, for one devbox: the options of its client. Keys that
// are the operator's alone are refused. Errors are InvalidArgument with the path of the key.
func (s Settings) Merge(options []byte) (Settings, error) {
	if len(bytes.TrimSpace(options)) == 0 {
		return s, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(options, &keys); err != nil {
		return s, rterr.Invalid(op, "spec.options", "is no JSON object")
	}
	for key := range keys {
		if !slices.Contains(clientKeys, key) {
			return s, rterr.Invalid(op, "spec.options."+key, "is not for a client to say").With("known", strings.Join(clientKeys, ", "))
		}
	}
	c := s.Config
	if _, ok := keys["blueprint_id"]; ok || keys["blueprint_name"] != nil || keys["snapshot_id"] != nil {
		c.BlueprintID, c.BlueprintName, c.SnapshotID = "", "", ""
	}
	if _, named := keys["size"]; !named && (keys["cpu_cores"] != nil || keys["memory_gb"] != nil) {
		c.Size = ""
	}
	err := decode(options, &c)
	if err == nil {
		s, err = c.settings()
	}
	if err != nil {
		e := *rterr.From(err)
		return s, rterr.Invalid(op, "spec.options."+e.Field, "%s", e.Detail)
	}
	return s, nil
}

// clientKeys are what a client may say of its devbox.
var clientKeys = []string{ //nolint:gochecknoglobals // a constant list
	"blueprint_id", "blueprint_name", "snapshot_id", "size", "cpu_cores", "memory_gb", "disk_gb", "architecture",
	"provisioning_tier", "env", "mounts", "launch_commands", "after_idle",
}

func decode(raw []byte, c *Config) error {
	if t := bytes.TrimSpace(raw); len(t) == 0 || t[0] != '{' {
		return Invalid("", "must be a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return wrong(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Invalid("", "must be one JSON object and nothing after it")
	}
	return nil
}

// wrong names the key of a decoder's error.
func wrong(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return Invalid(t.Field, "is a %s, wanted is %s", t.Value, t.Type)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return Invalid(strings.Trim(name, `"`), "is not a key of the runloop backend").
			WithRemedy("openhands-rt plugins ls -o json shows the keys that there are")
	}
	return Invalid("", "%v", err)
}

func (c Config) settings() (Settings, error) {
	s := Settings{Config: c, Port: defaultPort, Retries: defaultRetries, Attach: c.AttachToExisting == nil || *c.AttachToExisting}
	s.BaseURL = strings.TrimRight(c.BaseURL, "/")
	s.TunnelURL = strings.TrimRight(orElse(c.TunnelURL, tunnelOf(s.BaseURL)), "/")
	s.TunnelAuth = orElse(c.TunnelAuth, "authenticated")
	s.Agent = orElse(c.Agent, AgentOurs)
	s.Workspace = path.Clean(orElse(c.Workspace, "/workspace"))
	s.Size = orElse(c.Size, c.sizeOf())
	s.Architecture = orElse(c.Architecture, "x86_64")
	if c.AgentPort != nil {
		s.Port = *c.AgentPort
	}
	if c.Retry.Max != nil {
		s.Retries = *c.Retry.Max
	}
	if c.VSCode != nil && c.VSCode.Port == 0 {
		v := *c.VSCode
		v.Port = defaultVSCode
		s.VSCode = &v
	}
	for _, check := range []func(*Settings) error{
		checkURLs, checkWords, checkBegin, checkSize, checkEnv, checkMounts, checkTimes, checkAgent, checkRest,
	} {
		if err := check(&s); err != nil {
			return Settings{}, err
		}
	}
	return s, nil
}

// sizeOf is the size of who names none.
func (c Config) sizeOf() string {
	if c.custom() {
		return customSize
	}
	return "LARGE"
}

func (c Config) custom() bool { return c.CPUCores != 0 || c.MemoryGB != 0 || c.DiskGB != 0 }

// tunnelOf is where the tunnels of an API are, as the vendor's clients make it of the API's name.
func tunnelOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return "https://{port}-{key}.tunnel." + strings.TrimPrefix(u.Hostname(), "api.")
}

// customSize is the size that cpu_cores and memory_gb make.
const customSize = "CUSTOM_SIZE"

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func checkURLs(s *Settings) error {
	u, err := url.Parse(s.BaseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return Invalid("base_url", "%q is no http or https URL", s.BaseURL)
	}
	if !strings.Contains(s.TunnelURL, "{key}") || !strings.Contains(s.TunnelURL, "{port}") {
		return Invalid("tunnel_url", "%q lacks {key} or {port}", s.TunnelURL)
	}
	if _, _, err := s.Tunnel("key", 1); err != nil {
		return err
	}
	return nil
}

// Tunnel fills the template of tunnel_url: the address of a port, and the path that is put before every request's.
func (s *Settings) Tunnel(key string, port int) (address, before string, err error) {
	u, err := url.Parse(fill(s.TunnelURL, key, port))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", Invalid("tunnel_url", "%q makes no http or https URL", s.TunnelURL)
	}
	return u.Scheme + "://" + u.Host, strings.TrimRight(u.Path, "/"), nil
}

func checkWords(s *Settings) error {
	for _, w := range []struct {
		key, value string
		words      []string
	}{
		{"tunnel_auth", s.TunnelAuth, []string{"authenticated", "open"}},
		{"agent", s.Agent, []string{AgentOurs, AgentNone, AgentOpenHands}},
		{"size", s.Size, []string{"X_SMALL", "SMALL", "MEDIUM", "LARGE", "X_LARGE", "XX_LARGE", "CUSTOM_SIZE"}},
		{"architecture", s.Architecture, []string{"x86_64", "arm64"}},
		{"provisioning_tier", s.Tier, []string{"", "standard", "flex"}},
	} {
		if !slices.Contains(w.words, w.value) {
			return Invalid(w.key, "%q is none of %s", w.value, strings.Join(w.words, ", "))
		}
	}
	return nil
}

func checkBegin(s *Settings) error {
	n := 0
	for _, v := range []string{s.BlueprintID, s.BlueprintName, s.SnapshotID} {
		if v != "" {
			n++
		}
	}
	if n > 1 {
		return Invalid("blueprint_id", "only one of blueprint_id, blueprint_name and snapshot_id may be set")
	}
	if s.Dockerfile != "" && s.BlueprintName == "" {
		return Invalid("dockerfile", "needs blueprint_name, the name to build it under")
	}
	return nil
}

func checkSize(s *Settings) error {
	switch {
	case s.custom() && s.Size != customSize:
		return Invalid("size", "cpu_cores, memory_gb and disk_gb need CUSTOM_SIZE")
	case s.Size != customSize:
		return nil
	case s.CPUCores == 0 || s.MemoryGB == 0:
		return Invalid("size", "CUSTOM_SIZE needs cpu_cores and memory_gb")
	}
	return checkCustom(s)
}

// checkCustom: the sizes that Runloop makes.
func checkCustom(s *Settings) error {
	cores := s.CPUCores
	switch {
	case cores != 0.5 && (cores != float32(int32(cores)) || !isStep(int32(cores), 16)):
		return Invalid("cpu_cores", "%v is neither 0.5, 1 nor an even number up to 16", cores)
	case !isStep(s.MemoryGB, 64):
		return Invalid("memory_gb", "%d is neither 1 nor an even number up to 64", s.MemoryGB)
	case s.DiskGB != 0 && (s.DiskGB == 1 || !isStep(s.DiskGB, 64)):
		return Invalid("disk_gb", "%d is no even number from 2 to 64", s.DiskGB)
	case float32(s.MemoryGB) < 2*cores || float32(s.MemoryGB) > 8*cores:
		return Invalid("memory_gb", "%d GiB for %v processors: between 2 and 8 for each are possible", s.MemoryGB, cores)
	}
	return nil
}

// isStep: 1, or an even number up to most.
func isStep(n, most int32) bool { return n == 1 || (n > 0 && n <= most && n%2 == 0) }

func checkEnv(s *Settings) error {
	for name, value := range s.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return Invalid("env."+name, "cannot be a variable")
		}
	}
	for name, secret := range s.Secrets {
		if name == "" || strings.ContainsAny(name, "=\x00") || secret == "" {
			return Invalid("secrets."+name, "needs a variable's name and a secret's")
		}
	}
	return nil
}

func checkMounts(s *Settings) error {
	for _, raw := range s.Mounts {
		var m struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(raw, &m) != nil || m.Type == "" {
			return Invalid("mounts", "every mount is an object with a type")
		}
	}
	return nil
}

func checkTimes(s *Settings) error {
	s.LeaseFor, s.RetryDelay, s.RetryMax = defaultLease, defaultDelay, defaultMaxDelay
	for _, d := range []struct {
		key, text string
		to        *time.Duration
	}{
		{"lease", s.Lease, &s.LeaseFor}, {"keep_alive", s.KeepAlive, &s.KeepAliveFor},
		{"retry.delay", s.Retry.Delay, &s.RetryDelay}, {"retry.max_delay", s.Retry.MaxDelay, &s.RetryMax},
	} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v <= 0 {
			return Invalid(d.key, "%q is no positive duration such as 10m", d.text)
		}
		*d.to = v
	}
	if s.KeepAliveFor > maxKeepAlive {
		return Invalid("keep_alive", "%v is more than the %v that Runloop allows", s.KeepAliveFor, maxKeepAlive)
	}
	if s.RetryMax < s.RetryDelay {
		s.RetryMax = s.RetryDelay
	}
	if a := s.AfterIdle; a != nil && (a.IdleSeconds <= 0 || (a.OnIdle != "shutdown" && a.OnIdle != "suspend")) {
		return Invalid("after_idle", "needs idle_seconds above 0, and on_idle shutdown or suspend")
	}
	return nil
}

func checkAgent(s *Settings) error {
	if s.Port < 0 || s.Port > 65535 {
		return Invalid("agent_port", "%d is no port", s.Port)
	}
	if s.Agent == AgentOpenHands {
		return Invalid("agent", "%q is not available in this version", s.Agent).
			WithRemedy("leave agent out: our own agent is put into the devbox; or set it to none")
	}
	if s.Agent == AgentOpenHands && s.AgentStart == "" && s.Port == 0 {
		return Invalid("agent_port", "a free port needs agent_start, which is told which one")
	}
	if s.AgentStart != "" && s.Agent != AgentOpenHands {
		return Invalid("agent_start", "is for agent openhands alone")
	}
	return nil
}

func checkRest(s *Settings) error {
	if s.Retries < 0 || s.Retries > 20 {
		return Invalid("retry.max", "%d is not from 0 to 20", s.Retries)
	}
	if s.VSCode != nil && (s.VSCode.Port < 1 || s.VSCode.Port > 65535) {
		return Invalid("vscode.port", "%d is no port", s.VSCode.Port)
	}
	return nil
}

// KeepAliveOf is how long Runloop itself lets a devbox of a lease live: longer than the lease, which the devbox keeps by itself.
func (s *Settings) KeepAliveOf(lease time.Duration) time.Duration {
	if s.KeepAliveFor > 0 {
		return s.KeepAliveFor
	}
	return min(lease+keepAliveMargin, maxKeepAlive)
}

// keepAliveMargin is what a devbox needs to start and to be told of its lease.
const keepAliveMargin = 5 * time.Minute
