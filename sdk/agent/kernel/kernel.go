// Package kernel runs cells of Python in an ipykernel, over the Jupyter protocol: one kernel in the sandbox's process tree, started
// when it is needed, whose state lives from cell to cell; a virtual environment of the runtime's own; output as it comes and, at the
// end, the text as OpenHands' agents know it.
//
// The agent imports it; it knows neither the engine nor the wire.
package kernel

import (
	"context"
	"io/fs"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// Config is what a kernel needs. Dir, Venv, Workspace and Tree are required.
type Config struct {
	// Dir is a private folder at one path for us and for the tree: programs, key, sockets. Made with mode 0700 if it is not there.
	// One Kernel at a time.
	Dir string
	// Venv is the folder of the virtual environment, which is the runtime's own: what cells install stays there. Made if it is not
	// there.
	Venv string
	// Workspace is where a kernel starts if the cell's folder is not there.
	Workspace string
	// Python is the interpreter whose packages, ipykernel among them, the environment adds to its own; absolute. Empty: the first
	// python3 on Env's PATH, which is looked for at each start.
	Python string
	// Env is the whole environment of the kernel, "K=V".
	Env []string
	// Tree starts and signals the kernel. It is not closed.
	Tree sandbox.Tree
	// Packages are folders of Python that cells can import from, by a name for each; they come last on sys.path. Init is run at each
	// start of a kernel, before the first cell; if it fails, that is logged.
	Packages map[string]fs.FS
	Init     string
	Logger   hclog.Logger
}

// Kernel runs cells, one at a time, in the order in which they come. All methods may be called from any goroutine.
type Kernel struct {
	cfg Config
	// turn holds one token: who has it runs a cell. last is the kernel of the cell before; nil if its death was told.
	turn chan struct{}
	last *instance
	// life ends with Close.
	life context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	starting *start
	// starts counts the kernels.
	starts int
	closed bool
}

// start is a kernel that starts, or has started: in and err are there once done is closed.
type start struct {
	done chan struct{}
	in   *instance
	err  error
}

// New checks the config and starts nothing: see Warm. The caller closes it. Errors: ConfigInvalid naming the field.
func New(cfg Config) (*Kernel, error) {
	for field, path := range map[string]string{"Dir": cfg.Dir, "Venv": cfg.Venv, "Workspace": cfg.Workspace} {
		if !filepath.IsAbs(path) {
			return nil, rterr.New(rterr.ConfigInvalid, "make kernel", "must be absolute").WithField(field)
		}
	}
	switch {
	case cfg.Python != "" && !filepath.IsAbs(cfg.Python):
		return nil, rterr.New(rterr.ConfigInvalid, "make kernel", "must be absolute").WithField("Python")
	case cfg.Tree == nil:
		return nil, rterr.New(rterr.ConfigInvalid, "make kernel", "is required").WithField("Tree")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	k := &Kernel{cfg: cfg, turn: make(chan struct{}, 1)}
	k.life, k.stop = context.WithCancel(context.Background())
	return k, nil
}

// Warm starts the kernel before the first cell needs it, in dir, and does not wait. An error is logged; the first cell tries again.
func (k *Kernel) Warm(dir string) {
	s := k.ensure(dir)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.work.Go(func() {
		<-s.done
		if s.err != nil {
			k.cfg.Logger.Warn("cannot start the kernel; the first cell tries again", "error", s.err)
		}
	})
}

// ensure returns the kernel that there is, or one that starts in dir.
func (k *Kernel) ensure(dir string) *start {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.starting; s != nil && !s.over() {
		return s
	}
	s := &start{done: make(chan struct{})}
	if k.closed {
		s.err = rterr.New(rterr.Unavailable, "", "the agent is stopping").WithRan(rterr.RanNo)
		close(s.done)
		return s
	}
	k.starting = s
	k.starts++
	group := ".kernel-" + strconv.Itoa(k.starts)
	k.work.Go(func() {
		defer close(s.done)
		s.in, s.err = k.launch(group, dir)
	})
	return s
}

// over reports whether there is no use in it any more.
func (s *start) over() bool {
	select {
	case <-s.done:
		return s.err != nil || !s.in.alive()
	default:
		return false
	}
}

// launch starts a kernel and runs Init in it.
func (k *Kernel) launch(group, dir string) (*instance, error) {
	in, err := launch(k.life, k.cfg, group, folder(dir, k.cfg.Workspace))
	if err != nil || k.cfg.Init == "" {
		return in, rterr.Wrap(rterr.Provider, "start kernel", err)
	}
	ctx, cancel := context.WithTimeout(k.life, waitStart)
	defer cancel()
	if err := in.hidden(ctx, k.cfg.Init); err != nil {
		// Cells can install what breaks it. A kernel without it is better than none for ever.
		k.cfg.Logger.Warn("the first cell of the kernel has failed", "error", err)
	}
	return in, nil
}

// Python is the interpreter that cells run in.
func (k *Kernel) Python() string { return filepath.Join(k.cfg.Venv, "bin", "python") }

// Close ends the kernel and what it has started in its group, and waits for that until ctx ends. A cell that runs returns with the
// kernel's death. Idempotent.
func (k *Kernel) Close(ctx context.Context) error {
	k.mu.Lock()
	k.closed = true
	s := k.starting
	k.mu.Unlock()
	k.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s != nil {
			if <-s.done; s.in != nil {
				s.in.end()
			}
		}
		k.work.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return rterr.Wrap(rterr.Timeout, "close kernel", context.Cause(ctx))
	}
}
