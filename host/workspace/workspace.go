// Package workspace sets up the workspace of a runtime and looks at its git repositories: variables, clone or init, the set-up
// script, git hooks, changes and diffs. OpenHands does these in its client; here they are actions through host/runtime, so that
// permits, the journal, once-only and recovery hold for them as for any action.
//
// Secrets travel in the environment of one process in the sandbox, never in an argument, a shell's command or an output: those are
// kept in journals. Doors call Steps; it owns no state.
package workspace

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Runtimes is what this room needs of host/runtime; *runtime.Manager is one.
type Runtimes interface {
	Get(ctx context.Context, ref string) (*runtimev1.Runtime, error)
	HasFeature(ctx context.Context, ref, feature string) (bool, error)
	Execute(ctx context.Context, ref string, req *agentv1.ExecuteRequest) (agent.Stream, error)
	Interrupt(ctx context.Context, ref, id string, level agentv1.InterruptLevel) (bool, error)
	SetUp(ctx context.Context, ref string, stage runtime.Stage, message string, do func(context.Context) error) error
}

// The waits of this package. Both limits of a stage are well below those of its status, whose end is an error of the runtime.
const (
	// workspaceLimit bounds one step of SETTING_UP_WORKSPACE with its wait for the shell; hooksLimit one of SETTING_UP_GIT_HOOKS.
	workspaceLimit = 15 * time.Minute
	hooksLimit     = 5 * time.Minute
	// cloneLimit and scriptLimit bound a clone and a set-up script themselves; the latter is OpenHands'.
	cloneLimit  = 12 * time.Minute
	scriptLimit = 10 * time.Minute
	// smallLimit bounds what takes no time to speak of, lookLimit a look at a repository, which may be large.
	smallLimit = time.Minute
	lookLimit  = 2 * time.Minute
	// endLimit bounds ending an action, and cleaning up.
	endLimit = 15 * time.Second
)

// Steps does the steps. Its methods may be called from any goroutine; each blocks until its step is done. The requests and errors
// are those of runtime.v1 WorkspaceService.
type Steps struct {
	runtimes Runtimes
	// scriptLimit is the one above, but for tests.
	scriptLimit time.Duration
}

// New returns the steps in the runtimes of r.
func New(r Runtimes) *Steps { return &Steps{runtimes: r, scriptLimit: scriptLimit} }

// step is one call: its actions have ids that are made of its own.
type step struct {
	runtimes Runtimes
	runtime  *runtimev1.Runtime
	id       string
}

var stepPattern = regexp.MustCompile(`^[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,95}$`)

// begin checks what all requests have. An empty id is minted.
func (s *Steps) begin(ctx context.Context, ref, id string) (*step, error) {
	if id == "" {
		id = "w-" + strings.ToLower(rand.Text())
	}
	if !stepPattern.MatchString(id) {
		return nil, rterr.Invalid("", "step_id", "must be 1 to 96 characters of [A-Za-z0-9._:-], not starting with a dot")
	}
	v, err := s.runtimes.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &step{runtimes: s.runtimes, runtime: v, id: id}, nil
}

// setUp calls do in a stage of the runtime's, bounded by limit.
func (s *step) setUp(ctx context.Context, stage runtime.Stage, limit time.Duration, message string, do func(context.Context) error) error {
	return s.runtimes.SetUp(ctx, s.runtime.GetId(), stage, message, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return do(ctx)
	})
}

// eight are 8 characters of [a-z2-7] that belong to the step: a repeat has the same ones, nobody else can tell them.
func (s *step) eight() string {
	sum := sha256.Sum256([]byte(s.runtime.GetSessionKey() + "\x00" + s.id))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:8]
}

// folder is the absolute path of a dir of a request.
func (s *step) folder(dir string) (string, error) {
	if strings.ContainsRune(dir, 0) {
		return "", rterr.Invalid("", "dir", "has a NUL byte")
	}
	workspace := s.runtime.GetWorkspace()
	if workspace == "" {
		workspace = "/workspace"
	}
	if path.IsAbs(dir) {
		return path.Clean(dir), nil
	}
	return path.Join(workspace, dir), nil
}
