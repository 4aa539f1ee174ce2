package plugin

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Spec is one configured backend: where it comes from and what it is told. Treat it as read-only once given away.
type Spec struct {
	// Backend is the operator's name for it.
	Backend string
	// Command launches a plugin: program and arguments. A program without a slash is sought beside the host's own binary, then in
	// PATH. Exactly one of Command and Address is set.
	Command []string
	// Address dials one that runs already: "unix:///PATH" or "tcp://HOST:PORT".
	Address string
	// TLS guards Address; without it TCP must be loopback.
	TLS TLS
	// SHA256 is the hex digest that the program must have; empty accepts any. The file that was checked is the one that runs.
	SHA256 string
	// Env is given to the plugin; EnvAllow names variables of the host that it inherits besides the few harmless ones
	// ("HTTPS_PROXY", "AWS_*"). Nothing else of the host's environment reaches it.
	Env      map[string]string
	EnvAllow []string
	// Config is the JSON object for Configure; empty means {}.
	Config []byte
	// Owner and StateDir are passed on by Configure.
	Owner, StateDir string
	// Limits of the plugin's own process.
	Limits Limits
	// Timing: zero fields have defaults.
	Timing Timing
	// Restart: the zero value has defaults.
	Restart Policy
}

// TLS names the files (PEM) for a TCP address.
type TLS struct {
	CA, Cert, Key string
	// ServerName is the name that the certificate must have; empty means the host of the address.
	ServerName string
}

// Limits of a plugin's process; zero means none.
type Limits struct {
	// MemoryBytes is a soft limit: a Go plugin collects garbage harder as it comes near (GOMEMLIMIT).
	MemoryBytes int64
	// OpenFiles is the hard limit of descriptors (RLIMIT_NOFILE).
	OpenFiles uint64
}

// Timing are the waits that an operator may set. Zero means the default.
type Timing struct {
	// Start bounds launch and handshake; default 30 s.
	Start time.Duration
	// Configure bounds the Configure RPC; default 60 s.
	Configure time.Duration
	// Drain bounds the Drain RPC at stop and reload; default 10 s.
	Drain time.Duration
	// HealthEvery and HealthLimit are interval and deadline of health checks, HealthMisses how many in a row may fail; defaults
	// 5 s, 4 s, 3.
	HealthEvery, HealthLimit time.Duration
	HealthMisses             int
}

func (t Timing) withDefaults() Timing {
	t.Start = orDefault(t.Start, 30*time.Second)
	t.Configure = orDefault(t.Configure, 60*time.Second)
	t.Drain = orDefault(t.Drain, 10*time.Second)
	t.HealthEvery = orDefault(t.HealthEvery, 5*time.Second)
	t.HealthLimit = orDefault(t.HealthLimit, 4*time.Second)
	t.HealthMisses = orDefault(t.HealthMisses, 3)
	return t
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (s Spec) withDefaults() Spec {
	s.Timing = s.Timing.withDefaults()
	s.Restart = s.Restart.withDefaults(s.Address != "")
	if len(s.Config) == 0 || string(s.Config) == "null" {
		s.Config = []byte("{}")
	}
	s.SHA256 = strings.ToLower(strings.TrimPrefix(s.SHA256, "sha256:"))
	return s
}

// validate refuses what could never start.
func (s Spec) validate() error {
	op := "configure backend " + s.Backend
	bad := func(field, detail string) error {
		return rterr.New(rterr.ConfigInvalid, op, "%s", detail).WithField("backends." + s.Backend + "." + field)
	}
	digest := regexp.MustCompile(`^([0-9a-f]{64})?$`)
	switch {
	case s.Backend == "":
		return rterr.New(rterr.ConfigInvalid, op, "the backend has no name").WithField("backends")
	case (len(s.Command) == 0) == (s.Address == ""):
		return bad("command", "exactly one of command and address is needed")
	case len(s.Command) > 0 && s.Command[0] == "":
		return bad("command", "the program is empty")
	case !digest.MatchString(s.SHA256):
		return bad("sha256", "want 64 hex digits")
	case s.SHA256 != "" && s.Address != "":
		return bad("sha256", "a program at an address cannot be checked")
	case !json.Valid(s.Config):
		return bad("config", "is not JSON")
	}
	return nil
}

// sameProcess reports whether s and t can share one plugin process: all that differs is what Configure or the host says.
func (s Spec) sameProcess(t Spec) bool {
	return s.Backend == t.Backend && slices.Equal(s.Command, t.Command) && s.Address == t.Address && s.TLS == t.TLS &&
		s.SHA256 == t.SHA256 && maps.Equal(s.Env, t.Env) && slices.Equal(s.EnvAllow, t.EnvAllow) && s.Limits == t.Limits
}
