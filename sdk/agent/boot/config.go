// Package boot is the role `openhands-rt agent`: it reads a config from an inherited descriptor, takes hold of the process
// tree, and serves the agent's protocol until it is shut down, told to end, or its lease has ended.
//
// A main imports it; it imports neither go-plugin, grpc, koanf nor NATS.
package boot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/agent/socket"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Schema is the version of Config that this build writes and reads.
const Schema = 1

// The bounds of this package.
const (
	// maxConfig is the largest config, in bytes.
	maxConfig = 1 << 20
	// logMegabytes and logBackups bound the log file and its rotated copies.
	logMegabytes, logBackups = 8, 2
	// minCredential is the shortest credential, in bytes.
	minCredential = 16
)

// defaultPath is the PATH of a sandbox whose env has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// The features that the agent provides.
const (
	FeatureJupyter     = "jupyter"
	FeatureAgentSkills = "agent_skills"
)

// Config is all that an agent is told at its start. It holds the credential: it is read from a descriptor or a file, never from
// arguments or the environment.
type Config struct {
	// Schema is 1. A newer one than this build knows is refused.
	Schema int `json:"schema"`
	// Socket is the absolute path of a unix socket, made with mode 0600; Listen a TCP address, port 0 allowed. Exactly one.
	Socket string `json:"socket,omitempty"`
	Listen string `json:"listen,omitempty"`
	// StateDir keeps records, output and notes of uploads; absolute, made if need be.
	StateDir string `json:"state_dir"`
	// Workspace and Home are absolute folders as the sandbox sees them.
	Workspace string `json:"workspace"`
	Home      string `json:"home"`
	// Root confines file transfers; empty means the process's own view.
	Root       string `json:"root,omitempty"`
	Username   string `json:"username"`
	SandboxID  string `json:"sandbox_id"`
	RuntimeID  string `json:"runtime_id,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	// Nonce tells this start of the agent from every other.
	Nonce string `json:"nonce"`
	// Credential of at least 16 bytes.
	Credential string `json:"credential"`
	// V0Listen is a TCP address, port 0 allowed, for clients of OpenHands' V0 protocol that speak to the sandbox directly; empty
	// means none. V0Key is their session key, required then. See Main for where else they may come from.
	V0Listen string `json:"v0_listen,omitempty"`
	V0Key    string `json:"v0_key,omitempty"`
	// Features that the runtime asked for (backend.v1 SandboxSpec): FeatureJupyter has the kernel of run_ipython started with the
	// agent, FeatureAgentSkills the functions of sdk/agent/skills imported into it; others are not for the agent to provide. Without
	// FeatureJupyter the kind run_ipython is unknown.
	Features []string `json:"features,omitempty"`
	// Python is the interpreter that kernels take their packages from, ipykernel among them; absolute. Empty: the first python3 on
	// the sandbox's PATH.
	Python string `json:"python,omitempty"`
	// Env of the sandbox's processes. HOME, USER, LOGNAME and PATH are added if it has none; nothing of the agent's own is.
	Env map[string]string `json:"env,omitempty"`
	// InheritEnv puts the agent's own environment under Env, for sandboxes whose provider sets variables of its own in it.
	InheritEnv bool `json:"inherit_env,omitempty"`
	// Lease from the start on, as "30s"; zero or absent means none until it is renewed.
	Lease Duration `json:"lease,omitempty"`
	// RecordTTL is how long records of actions are kept; zero means the engine's default.
	RecordTTL Duration `json:"record_ttl,omitempty"`
	// Cgroup is the folder of the tree's own cgroup v2; empty means that the tree is found through /proc. LimitGroups are
	// folders of v1 cgroups.
	Cgroup      string   `json:"cgroup,omitempty"`
	LimitGroups []string `json:"limit_groups,omitempty"`
	// LogFile is written as JSON lines and rotated; empty means no log. LogLevel is trace, debug, info, warn or error.
	LogFile  string `json:"log_file,omitempty"`
	LogLevel string `json:"log_level,omitempty"`
	// ReadyFD is a descriptor that gets one line, a Ready, and is closed; 0 means none.
	ReadyFD int `json:"ready_fd,omitempty"`
}

// Duration is a time.Duration written as Go writes it: "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// ConfigFromReader reads one config to the end of r. Errors are ConfigInvalid naming the field; they never hold the content.
func ConfigFromReader(r io.Reader) (Config, error) {
	const op = "read agent config"
	raw, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return Config{}, rterr.Wrap(rterr.ConfigInvalid, op, err)
	}
	if len(raw) > maxConfig {
		return Config{}, rterr.New(rterr.ConfigInvalid, op, "is larger than %d bytes", maxConfig)
	}
	// The schema first: a newer one may well have fields that are not known here.
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return Config{}, rterr.New(rterr.ConfigInvalid, op, "%s", harmless(err))
	}
	if head.Schema != Schema {
		return Config{}, invalid("schema", "is %d, this agent knows %d", head.Schema, Schema)
	}
	var c Config
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, rterr.New(rterr.ConfigInvalid, op, "%s", harmless(err))
	}
	return c, c.Validate()
}

// harmless describes a JSON error without the offending value, which might be the credential.
func harmless(err error) string {
	switch e := err.(type) { //nolint:errorlint // encoding/json returns them bare
	case *json.SyntaxError:
		return fmt.Sprintf("is no JSON, at byte %d", e.Offset)
	case *json.UnmarshalTypeError:
		return fmt.Sprintf("%s: cannot be read as %v", e.Field, e.Type)
	}
	if text := err.Error(); strings.HasPrefix(text, "json: unknown field ") {
		return text
	}
	return "has a malformed value"
}

func invalid(field, detail string, args ...any) *rterr.Error {
	return rterr.New(rterr.ConfigInvalid, "agent config", detail, args...).WithField(field)
}

// Validate checks every field by itself; what only the machine can tell is found out at the start. Errors are ConfigInvalid
// naming the field.
func (c Config) Validate() error {
	if c.Schema != Schema {
		return invalid("schema", "is %d, this agent knows %d", c.Schema, Schema)
	}
	if (c.Socket == "") == (c.Listen == "") {
		return invalid("socket", "exactly one of socket and listen is needed")
	}
	if c.Socket != "" {
		if err := socket.Check(c.Socket); err != nil {
			return invalid("socket", "%v", err)
		}
	} else if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return invalid("listen", "is not host:port")
	}
	if err := c.validateV0(); err != nil {
		return err
	}
	if err := c.validatePaths(); err != nil {
		return err
	}
	switch {
	case len(c.Credential) < minCredential:
		return invalid("credential", "has fewer than %d bytes", minCredential)
	case strings.ContainsFunc(c.Credential, unprintable):
		return invalid("credential", "has characters other than printable ASCII")
	case c.Nonce == "":
		return invalid("nonce", "is required")
	case c.SandboxID == "":
		return invalid("sandbox_id", "is required")
	case c.Lease < 0:
		return invalid("lease", "is negative")
	case c.RecordTTL < 0:
		return invalid("record_ttl", "is negative")
	case c.ReadyFD < 0 || c.ReadyFD == 1 || c.ReadyFD == 2:
		return invalid("ready_fd", "must be 0 for none, or 3 and above")
	case !slices.Contains([]string{"", "trace", "debug", "info", "warn", "error"}, c.LogLevel):
		return invalid("log_level", "%q is none of trace, debug, info, warn, error", c.LogLevel)
	}
	return c.validateEnv()
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

func (c Config) validateV0() error {
	if c.V0Listen == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.V0Listen); err != nil {
		return invalid("v0_listen", "is not host:port")
	}
	if c.V0Key == "" {
		return invalid("v0_key", "is required for v0_listen")
	}
	if strings.ContainsFunc(c.V0Key, unprintable) {
		return invalid("v0_key", "has characters other than printable ASCII")
	}
	return nil
}

func (c Config) validatePaths() error {
	required := map[string]string{"state_dir": c.StateDir, "workspace": c.Workspace, "home": c.Home}
	optional := map[string]string{"python": c.Python, "root": c.Root, "cgroup": c.Cgroup, "log_file": c.LogFile}
	for i, group := range c.LimitGroups {
		required[fmt.Sprintf("limit_groups[%d]", i)] = group
	}
	for _, field := range slices.Sorted(maps.Keys(required)) {
		if !filepath.IsAbs(required[field]) {
			return invalid(field, "an absolute path is required")
		}
	}
	for _, field := range slices.Sorted(maps.Keys(optional)) {
		if p := optional[field]; p != "" && !filepath.IsAbs(p) {
			return invalid(field, "is not an absolute path")
		}
	}
	return nil
}

func (c Config) validateEnv() error {
	for name, value := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return invalid("env", "has an impossible entry %q", name)
		}
	}
	if _, err := c.noChangeTimeout(); err != nil {
		return invalid("env", "has %s that is no number of seconds from 1 on", noChangeVariable)
	}
	return nil
}

// noChangeVariable of a sandbox's environment says, in seconds, after how long without output an agent is told of a command that it
// did not want to wait for: OpenHands' own name for it.
const noChangeVariable = "NO_CHANGE_TIMEOUT_SECONDS"

// noChangeDefault is what clients of the V0 protocol expect.
const noChangeDefault = 10 * time.Second

// noChangeTimeout is 0, for never, without the variable; but with clients of the V0 protocol it is their default.
func (c Config) noChangeTimeout() (time.Duration, error) {
	value, ok := c.Env[noChangeVariable]
	switch {
	case !ok && c.V0Listen != "":
		return noChangeDefault, nil
	case !ok:
		return 0, nil
	}
	seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
	if err == nil && seconds == 0 {
		err = strconv.ErrRange
	}
	return time.Duration(seconds) * time.Second, err
}

// environ is the environment of the sandbox's processes, sorted.
func (c Config) environ() []string {
	env := map[string]string{"PATH": defaultPath}
	if c.InheritEnv {
		for _, entry := range os.Environ() {
			name, value, _ := strings.Cut(entry, "=")
			env[name] = value
		}
	}
	env["HOME"] = c.Home
	if c.Username != "" {
		env["USER"], env["LOGNAME"] = c.Username, c.Username
	}
	maps.Copy(env, c.Env)
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}
