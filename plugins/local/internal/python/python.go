// Package python finds the Python environment that kernels take their packages from, and makes one where there is none. Only the
// local plugin's service imports it.
package python

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// requirements are the packages with their versions and hashes; scripts/python makes the same environment ahead of time.
//
//go:embed requirements.txt
var requirements []byte

// The waits of this package.
const (
	// lookLimit bounds the question whether an interpreter has ipykernel.
	lookLimit = 20 * time.Second
	// makeLimit bounds the making of an environment, packages fetched.
	makeLimit = 10 * time.Minute
	// killLimit is how long what a cut pip has started may hold its output.
	killLimit = 2 * time.Second
)

// maxOutput bounds what is told of pip's words.
const maxOutput = 2 << 10

// Base is the environment of one machine. Its methods may be called from any goroutine.
type Base struct {
	dir string
	env []string
	// turn has one token; found belongs to who has it.
	turn  chan struct{}
	found string
}

// New returns a base. Environments are made in dir, a folder of this plugin alone; env, "K=V", is the environment of the programs
// that do it: pip's settings, PATH. No I/O.
func New(dir string, env []string) *Base {
	return &Base{dir: dir, env: env, turn: make(chan struct{}, 1)}
}

// Interpreter returns the path of an interpreter that has ipykernel: the first python3 on PATH if that has it, else that of an
// environment of our own, which is made when it is first asked for (half a minute and more, from the package index that pip is
// set to). An answer is kept. Callers wait for one another, until ctx ends. Errors: Unsupported with what is missing.
func (b *Base) Interpreter(ctx context.Context, path string) (string, error) {
	const op = "find Python"
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return "", rterr.Wrap(rterr.Cancelled, op, ctx.Err())
	}
	if b.found != "" {
		return b.found, nil
	}
	system, err := lookPath(path)
	if err != nil {
		return "", rterr.New(rterr.Unsupported, op, "there is no python3 on PATH").WithCause(err).
			WithRemedy("install Python 3.11 or later with venv, or name one that has ipykernel: the key python of the local backend")
	}
	if b.hasKernel(ctx, system) {
		b.found = system
		return system, nil
	}
	own := b.folder()
	interpreter := filepath.Join(own, "bin", "python3")
	if !b.hasKernel(ctx, interpreter) {
		if err := b.make(ctx, system, own); err != nil {
			return "", rterr.Wrap(rterr.Unsupported, op, err)
		}
	}
	b.found = interpreter
	return interpreter, nil
}

// lookPath finds python3 on a PATH that is not our own.
func lookPath(path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			continue
		}
		if found, err := exec.LookPath(filepath.Join(dir, "python3")); err == nil {
			return found, nil
		}
	}
	return "", fs.ErrNotExist
}

// folder is named after what is in it, so that another version makes another one.
func (b *Base) folder() string {
	sum := sha256.Sum256(requirements)
	return filepath.Join(b.dir, "kernels-"+hex.EncodeToString(sum[:6]))
}

func (b *Base) hasKernel(ctx context.Context, interpreter string) bool {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	_, err := b.run(ctx, interpreter, "-c", "import ipykernel")
	return err == nil
}

// make makes an environment. It gets its name only when it is complete, so that one that was cut short is never used; pip and the
// interpreter do not mind the move, for they are called as `python -m pip`.
func (b *Base) make(ctx context.Context, system, folder string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, makeLimit)
	defer cancel()
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(b.dir, ".making-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	if said, err := b.run(ctx, system, "-m", "venv", fresh); err != nil {
		return failure("make a virtual environment", said, err).
			WithRemedy("install what python3 needs for venv (python3-venv on Debian), or name an interpreter that has ipykernel: the key python")
	}
	lock := filepath.Join(fresh, "requirements.txt")
	if err := os.WriteFile(lock, requirements, 0o600); err != nil {
		return err
	}
	said, err := b.run(ctx, filepath.Join(fresh, "bin", "python3"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--only-binary", ":all:", "--require-hashes", "-r", lock)
	if err != nil {
		return failure("install ipykernel", said, err).
			WithRemedy("see that pip reaches its package index (pip config list), or name an interpreter that has ipykernel: the key python")
	}
	if err := os.RemoveAll(folder); err != nil { // one that no longer works
		return err
	}
	return os.Rename(fresh, folder)
}

func failure(what string, said []byte, err error) *rterr.Error {
	return rterr.New(rterr.Unsupported, what, "%v", err).With("output", string(said)).WithCause(err)
}

// run runs a program and returns the end of what it said.
func (b *Base) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = b.env, "/", killLimit
	said, err := cmd.CombinedOutput()
	said = bytes.TrimSpace(said)
	if len(said) > maxOutput {
		said = []byte("..." + strings.ToValidUTF8(string(said[len(said)-maxOutput:]), ""))
	}
	return said, err
}
