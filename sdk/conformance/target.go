package conformance

import (
	"crypto/tls"
	"encoding/json"
	"time"

	"github.com/hashicorp/go-hclog"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Target is the backend under test. Command or Address is required, the rest has defaults.
type Target struct {
	// Command is the plugin binary and its arguments. It is launched with mutual TLS, more than once, and killed with SIGKILL.
	Command []string
	// Env is added to the small environment that a plugin is launched with, "NAME=value".
	Env []string
	// Address is dialled instead: "unix:///path" or "host:port". Clauses that launch or kill the plugin are skipped then.
	Address string
	// TLS secures Address; nil means a plain connection.
	TLS *tls.Config
	// Config is the JSON object that Configure gets; nil means {}.
	Config json.RawMessage
	// BadConfigs are configs that Configure must refuse, each naming the field.
	BadConfigs []json.RawMessage
	// Credentials go with Config, by the names that it refers to.
	Credentials map[string]string
	// Owner is the owner label of what the suite makes, with a suffix for every plugin that it launches; empty means one minted for
	// this run. The suite ends all sandboxes of these owners: never give one that is in use.
	Owner string
	// Backend is the configured name of the backend; empty means "conformance".
	Backend string
	// Expect is what the tester knows the backend to be able to do. What Describe claims must equal it, and clauses are
	// skipped by it alone. Nil means that Describe is taken at its word, yet held to it.
	Expect *backendv1.Capabilities
	// StateDir is a folder of this machine for what backends keep; the suite makes subfolders in it. Required with Command.
	StateDir string
	// Workspaces is a folder of this machine in which the suite makes workspaces for sandboxes, for backends that run on this
	// machine. With it the suite sees for itself that no process outlives a Close. Empty: such clauses are skipped.
	Workspaces string
	// Spec is what every sandbox of the suite is made with (image, username, options); nil means the backend's defaults.
	Spec *backendv1.SandboxSpec
	// Timeout bounds each clause; zero means two minutes.
	Timeout time.Duration
}

// Options say how a run is done. The zero value runs every clause.
type Options struct {
	// Only names the clauses to run: whole names, or groups such as "connect". Empty means all.
	Only []string
	// Report gets each result as soon as it is there, one at a time; nil for none.
	Report func(Result)
	// Parallel is the number of clauses that run at once; zero means four, since most of a clause's time is waiting.
	Parallel int
	// Logger gets what the plugin writes to stderr and what the suite cleans up; nil for none.
	Logger hclog.Logger
}

func (t Target) withDefaults() (Target, error) {
	if (len(t.Command) == 0) == (t.Address == "") {
		return t, rterr.Invalid("conformance", "target", "needs either a command or an address")
	}
	if len(t.Command) > 0 && t.StateDir == "" {
		return t, rterr.Invalid("conformance", "target.state_dir", "is required to launch a plugin")
	}
	if t.Config == nil {
		t.Config = json.RawMessage("{}")
	}
	if t.Owner == "" {
		t.Owner = mint("owner")
	}
	if t.Backend == "" {
		t.Backend = "conformance"
	}
	if t.Timeout <= 0 {
		t.Timeout = clauseLimit
	}
	return t, nil
}
