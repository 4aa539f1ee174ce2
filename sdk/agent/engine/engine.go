// Package engine runs actions inside a sandbox: "process" (one program, byte-exact channels), "run" (a command for the one
// persistent shell), and what other kinds it is given (Kind). It records every action before it runs, keeps its output, and lets
// any number of readers follow it.
//
// An action belongs to the engine, not to who asked for it: a reader that goes away changes nothing. The agent's server
// imports it.
package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/record"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// Config is what an engine needs. StateDir, Workspace and Tree are required; a zero elsewhere means the default.
type Config struct {
	// StateDir is a private folder of the engine's own: records, spilled output. Made with mode 0700 if it is not there. One
	// engine at a time.
	StateDir string
	// Workspace is the first working directory of shell and processes, absolute.
	Workspace string
	// Env is the whole environment of shell and processes, "K=V".
	Env []string
	// Tree starts and signals every child. The engine does not close it.
	Tree sandbox.Tree
	// Shell is the command of the shell, which must be a bash of 5.1 or later; default "bash", looked up in Env's PATH.
	Shell []string
	// RecordTTL is how long the record of a done action is kept (24 h), MaxRecords how many (10,000), RecordBytes their size in
	// all (256 MiB). The oldest done ones go first.
	RecordTTL   time.Duration
	MaxRecords  int
	RecordBytes int64
	// SpoolMemory bounds what is kept in memory of one channel (256 KiB), SpoolDisk in files of one channel (1 GiB), SpoolTotal
	// in files of all (8 GiB).
	SpoolMemory           int
	SpoolDisk, SpoolTotal int64
	// Rows and Cols of the shell's terminal; default 1000 each, as OpenHands has it, so that nothing is wrapped or paged.
	Rows, Cols uint16
	// NoChangeTimeout ends the wait for a run action that is not blocking and has written nothing for so long. 0: never.
	NoChangeTimeout time.Duration
	// Kinds are the further kinds of action, by their names, which must not be those of the engine's own. The map is not changed.
	Kinds  map[string]Kind
	Logger hclog.Logger
}

// maxQueue bounds the run actions that wait for their turn, and the actions of further kinds that run.
const maxQueue = 1000

// Engine runs actions. All methods may be called from any goroutine.
type Engine struct {
	cfg     Config
	log     hclog.Logger
	journal *record.Journal
	spool   *spool.Store
	shell   *runner

	// admission makes the look at what is known and the record of what is new one step.
	admission sync.Mutex

	mu sync.Mutex
	// live are the actions that are queued or running.
	live   map[string]*live
	closed bool

	// left reads what detached processes still write to the pipes of actions that are done.
	left leftovers
	// doings counts the tasks of further kinds.
	doings atomic.Int64
	// work are the goroutines of actions.
	work sync.WaitGroup
}

func (c Config) withDefaults() Config {
	orInt := func(v *int, d int) { *v = max(*v, 0); setZero(v, d) }
	orInt(&c.MaxRecords, 10_000)
	orInt(&c.SpoolMemory, 256<<10)
	setZero(&c.RecordTTL, 24*time.Hour)
	setZero(&c.RecordBytes, 256<<20)
	setZero(&c.SpoolDisk, 1<<30)
	setZero(&c.SpoolTotal, 8<<30)
	setZero(&c.Rows, 1000)
	setZero(&c.Cols, 1000)
	if len(c.Shell) == 0 {
		c.Shell = []string{"bash"}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

func setZero[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// New opens what an earlier engine has left in StateDir: actions that were not done become OUTCOME_LOST. It starts the shell and
// does not wait for it. Errors: ConfigInvalid naming the field; Integrity if the records are damaged or of a later build.
func New(cfg Config) (*Engine, error) {
	const op = "start engine"
	cfg = cfg.withDefaults()
	if err := cfg.validate(op); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, op, err)
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, live: map[string]*live{}}
	var err error
	e.journal, err = record.Open(record.Config{Path: filepath.Join(cfg.StateDir, "actions"), TTL: cfg.RecordTTL,
		MaxRecords: cfg.MaxRecords, MaxBytes: cfg.RecordBytes, Dropped: e.dropped, Logger: cfg.Logger})
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	e.spool, err = spool.Open(spool.Config{Dir: filepath.Join(cfg.StateDir, "spool"), Memory: cfg.SpoolMemory,
		Disk: cfg.SpoolDisk, Total: cfg.SpoolTotal, Logger: cfg.Logger},
		func(id string) bool { return e.journal.Brief(id) != nil })
	if err == nil {
		err = e.loseUnfinished()
	}
	if err != nil {
		_ = e.journal.Close() // The first error says more.
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	e.shell = newRunner(e, cfg.Workspace)
	e.shell.warm()
	return e, nil
}

func (c Config) validate(op string) error {
	bad := func(field, detail string) error {
		return rterr.New(rterr.ConfigInvalid, op, "%s", detail).WithField(field)
	}
	switch {
	case c.StateDir == "":
		return bad("StateDir", "is required")
	case !filepath.IsAbs(c.Workspace):
		return bad("Workspace", "must be absolute")
	case c.Tree == nil:
		return bad("Tree", "is required")
	}
	for name, k := range c.Kinds {
		if k == nil || name == action.KindRun || name == action.KindProcess || name == "" {
			return bad("Kinds", fmt.Sprintf("%q cannot be added", name))
		}
	}
	return nil
}

// dropped is the journal's: the record of an action is no longer kept.
func (e *Engine) dropped(id string) {
	if e.spool != nil {
		e.spool.Remove(id)
	}
}

// Kinds returns the kinds of action that Execute takes: its own, and then the further ones in the order of their names.
func (e *Engine) Kinds() []string {
	return append([]string{action.KindRun, action.KindProcess}, slices.Sorted(maps.Keys(e.cfg.Kinds))...)
}

// Active returns the number of actions that are queued or running.
func (e *Engine) Active() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.live)
}

// Get returns the record of an action. NotFound, with ran no, for an unknown id.
func (e *Engine) Get(id string) (*agentv1.ActionRecord, error) {
	l, err := e.find("get action", id)
	if err != nil {
		return nil, err
	}
	return l.snapshot().record, nil
}

// List returns up to limit records, the newest first, without observation payloads. limit 0 means 100; at most 1000.
func (e *Engine) List(active bool, limit int) []*agentv1.ActionRecord {
	if limit <= 0 {
		limit = 100
	}
	match := func(r *agentv1.ActionRecord) bool { return r.GetState() != agentv1.ActionState_ACTION_STATE_DONE }
	if !active {
		match = nil
	}
	all := e.journal.List(min(limit, 1000), match)
	for i, r := range all {
		if l := e.lookup(r.GetId()); l != nil {
			all[i] = withoutPayload(l.snapshot().record)
		}
	}
	return all
}

// Close ends the shell and every process and task that an action runs, waits for that (until ctx ends), and closes the records in any
// case. What was in the shell, and a task that was cut off, is recorded as OUTCOME_LOST; what is queued, or not over when ctx ends,
// becomes that with the next New. What processes have detached is the caller's to kill (Tree.Kill).
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	already := e.closed
	e.closed = true
	all := make([]*live, 0, len(e.live))
	for _, l := range e.live {
		all = append(all, l)
	}
	e.mu.Unlock()
	if already {
		return nil
	}
	done := make(chan error, 1)
	go func() {
		for _, l := range all {
			l.cut()
		}
		e.shell.close()
		e.left.close()
		e.work.Wait()
		done <- e.closeKinds()
	}()
	select {
	case err := <-done:
		return rterr.Wrap(rterr.Internal, "close engine", errors.Join(err, e.journal.Close()))
	case <-ctx.Done():
		return rterr.Wrap(rterr.Timeout, "close engine", errors.Join(ctx.Err(), e.journal.Close()))
	}
}
