// Package cli is everything that a person types: the commands of openhands-rt but `agent`, which main runs itself.
//
// Commands talk to the daemon over runtime/v1 alone, also on the same machine; only `serve`, `config` and `states` use the
// host's packages. Exit codes: 0; the command's own for exec, run, shell and actions attach, 125 for failures of ours there;
// elsewhere 1 for a failure and 2 for wrong usage; 128+n when signal n ended it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/daemon"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The exit codes that are not a command's own.
const (
	codeFailure  = 1
	codeUsage    = 2
	codeTimedOut = 124
	codeOurs     = 125
	codeCannot   = 126
	codeNoSuch   = 127
	codeSignal   = 128
)

// Env is the world of one command.
type Env struct {
	// Args without the program's name.
	Args []string
	// In is an *os.File where it can be waited for and may be a terminal; Out and Err may be terminals too.
	In       *os.File
	Out, Err io.Writer
	Getenv   func(string) string
	// Environ is the whole environment, "KEY=VALUE".
	Environ []string
	// Signals brings INT, TERM, HUP, WINCH and PIPE; the owner keeps it open.
	Signals <-chan os.Signal
	Now     func() time.Time
}

// Main runs one command and returns its exit code. It blocks until everything that the command started has ended.
func Main(ctx context.Context, env Env) int {
	a := &app{env: env}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.cancel = cancel
	done := make(chan struct{})
	routed := make(chan struct{})
	go func() { defer close(routed); a.route(done) }()
	defer func() { close(done); <-routed }()

	root := a.root()
	root.SetArgs(env.Args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	called, err := root.ExecuteContextC(ctx)
	return a.finish(ctx, called, err)
}

// app is one command's run: its world, the global flags, and what is shared by all commands.
type app struct {
	env    Env
	flags  globals
	cancel context.CancelCauseFunc
	// handler takes the next signals; nil means that TERM, HUP and INT end the command.
	handler atomic.Pointer[func(os.Signal)]
	d       *daemon.Daemon
}

// globals are the flags of every command.
type globals struct {
	url, keyFile, dataDir, output string
}

// signalled is the cause of a context that a signal ended.
type signalled struct{ sig syscall.Signal }

func (s signalled) Error() string { return "ended by " + s.sig.String() }

// exitCode ends a command with a code and nothing more to say.
type exitCode int

func (e exitCode) Error() string { return "exit" }

// usageError is a wrong use of a command: its help is the remedy.
type usageError struct{ error }

// ours is a failure of ours in a command whose exit code is otherwise that of what it runs.
type ours struct{ error }

func (o ours) Unwrap() error { return o.error }

// route hands signals to the handler of the moment until done.
func (a *app) route(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig := <-a.env.Signals:
			if h := a.handler.Load(); h != nil {
				(*h)(sig)
			} else {
				a.end(sig)
			}
		}
	}
}

// end cancels the command for a signal that ends programs.
func (a *app) end(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok && s != syscall.SIGWINCH && s != syscall.SIGPIPE {
		a.cancel(signalled{s})
	}
}

// handle sends signals to h until the returned function is called.
func (a *app) handle(h func(os.Signal)) (restore func()) {
	before := a.handler.Swap(&h)
	return func() { a.handler.Store(before) }
}

// finish says what went wrong, if anything, and chooses the exit code.
func (a *app) finish(ctx context.Context, called *cobra.Command, err error) int {
	if a.d != nil {
		a.d.Close()
	}
	if sig, ok := errors.AsType[signalled](context.Cause(ctx)); ok && err != nil && !isExit(err) {
		return codeSignal + int(sig.sig)
	}
	if err == nil {
		return 0
	}
	if errors.Is(err, syscall.EPIPE) {
		return codeSignal + int(syscall.SIGPIPE) // whoever read the output has had enough
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if u, ok := errors.AsType[usageError](err); ok {
		a.say(rterr.New(rterr.InvalidArgument, "", "%s", u.Error()).WithRemedy("see `" + called.CommandPath() + " --help`"))
		return codeUsage
	}
	a.say(err)
	if _, ok := errors.AsType[ours](err); ok {
		return codeOurs
	}
	return codeFailure
}

func isExit(err error) bool {
	_, ok := errors.AsType[exitCode](err)
	return ok
}

// say writes an error in the format that was asked for.
func (a *app) say(err error) {
	if render.Format(a.flags.output) == render.FormatJSON {
		render.ErrorJSON(a.env.Err, err)
		return
	}
	render.Error(a.env.Err, err)
}

// note writes a line for people to the error output.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.env.Err, "openhands-rt: "+format+"\n", args...)
}

func (a *app) printer() *render.Printer {
	return &render.Printer{Out: a.env.Out, Format: render.Format(a.flags.output), Now: a.env.Now}
}

// dial finds the daemon; the first call decides for the whole command.
func (a *app) dial() (*daemon.Daemon, error) {
	if a.d != nil {
		return a.d, nil
	}
	d, err := daemon.Open(daemon.Where{
		URL: a.flags.url, KeyFile: a.flags.keyFile, DataDir: a.flags.dataDir,
		DefaultDataDir: a.defaultDataDir(), Getenv: a.env.Getenv,
	})
	if err != nil {
		return nil, err
	}
	a.d = d
	return d, nil
}
