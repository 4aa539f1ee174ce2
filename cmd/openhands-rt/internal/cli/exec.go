package cli

import (
	"context"
	"errors"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/terminal"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// envRuntime names the runtime for commands that are given none.
const envRuntime = "OPENHANDS_RT_RUNTIME"

// where says in which runtime a command runs.
type where struct {
	runtime   string
	fresh     bool
	keep      bool
	sandbox   sandboxFlags
	reconnect time.Duration
}

func (w *where) bind(f *pflag.FlagSet) {
	f.StringVarP(&w.runtime, "runtime", "r", "", "runtime to use: its id or its session id ("+envRuntime+")")
	f.BoolVar(&w.fresh, "new", false, "make a runtime for this command; it ends with it")
	f.BoolVar(&w.keep, "keep", false, "with --new: leave the runtime when the command has ended, and say its id on stderr")
	f.DurationVar(&w.reconnect, "reconnect", 30*time.Second, "how long to try to re-attach when the connection to the daemon is lost")
	w.sandbox.bind(f)
}

// check resolves the environment and refuses what contradicts itself.
func (w *where) check(a *app) error {
	if w.runtime != "" && w.fresh {
		return usagef("--runtime and --new exclude each other")
	}
	if w.runtime == "" && !w.fresh {
		w.runtime = a.env.Getenv(envRuntime)
	}
	switch {
	case w.runtime == "" && !w.fresh:
		return usagef("no runtime: name one with --runtime (see `openhands-rt runtimes ls`), or make one with --new")
	case w.keep && !w.fresh:
		return usagef("--keep goes with --new")
	case w.sandbox.set() && !w.fresh:
		return usagef("--backend, --workspace and --limit-* go with --new")
	}
	return nil
}

// with calls do with the runtime, which it makes and ends where that is wanted.
func (a *app) with(ctx context.Context, w *where, do func(*runtimev1.Runtime) (int, error)) error {
	if !w.fresh {
		rt, err := a.get(ctx, w.runtime)
		if err != nil {
			return ours{err}
		}
		return outcome(do(rt))
	}
	spec, err := w.sandbox.spec()
	if err != nil {
		return err
	}
	if _, err := a.dial(); err != nil {
		return ours{err}
	}
	req := &runtimev1.CreateRuntimeRequest{Sid: newSid(), Backend: w.sandbox.backend, Spec: spec, AttachToExisting: true}
	rt, err := a.create(ctx, req)
	if err != nil {
		a.stopSaying(ctx, rt, req.GetSid())
		return ours{err}
	}
	code, err := do(rt)
	if lost := (*lostError)(nil); w.keep || errors.As(err, &lost) {
		a.note("runtime %s stays; end it with `openhands-rt runtimes stop %s`", rt.GetId(), rt.GetId())
		return outcome(code, err)
	}
	a.stopSaying(ctx, rt, req.GetSid())
	return outcome(code, err)
}

// outcome is a command's exit code, or a failure of ours, as an error.
func outcome(code int, err error) error {
	switch {
	case err != nil:
		return ours{err}
	case code != 0:
		return exitCode(code)
	default:
		return nil
	}
}

type execFlags struct {
	where
	interactive, tty, detach bool
	env                      []string
	dir, id                  string
	timeout                  time.Duration
}

func (a *app) execCommand() *cobra.Command {
	f := &execFlags{}
	c := &cobra.Command{
		Use: "exec (--runtime ID | --new) [flags] -- COMMAND [ARG...]", Short: "Run a program in a runtime",
		Long: `Run a program in a runtime: its output live and byte for byte, stdout and stderr apart, and its exit code as this command's.

Input is forwarded when it is not a terminal, or with -i. Ctrl-C interrupts the program, again within 2 seconds it is
terminated, again killed. When the connection to the daemon is lost the program goes on, and this command re-attaches.

Exit codes: the program's; 128+n if signal n ended it; 124 if --timeout did; 127 if there is no such program, 126 if it may
not be run; 125 for a failure of openhands-rt itself.`,
		Example: `  openhands-rt exec --new -- sh -c 'echo out; echo err >&2; exit 3'
  openhands-rt exec --runtime $R -- go test ./...
  openhands-rt exec --runtime $R -- sha256sum < big.file
  openhands-rt exec --runtime $R -it -- python3
  openhands-rt exec --runtime $R --id build-17 --detach -- make   # later: openhands-rt actions attach build-17`,
		Args: minArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.exec(c.Context(), f, args) },
	}
	fs := c.Flags()
	fs.SetInterspersed(false)
	f.bind(fs)
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "forward the input even if it is a terminal")
	fs.BoolVarP(&f.tty, "tty", "t", false, "give the program a terminal; leave it running with Ctrl-P Ctrl-Q")
	fs.BoolVarP(&f.detach, "detach", "d", false, "start the program, print the action's id, and leave it running")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "environment of the program, as K=V, or K to take it from here")
	fs.StringVarP(&f.dir, "workdir", "w", "", "working directory (default: the workspace)")
	fs.DurationVar(&f.timeout, "timeout", 0, "end the program after this time")
	fs.StringVar(&f.id, "id", "", "id of the action: the same id never runs twice, it attaches")
	return c
}

func (a *app) exec(ctx context.Context, f *execFlags, argv []string) error {
	if err := f.check(a); err != nil {
		return err
	}
	stdin := f.interactive || !terminal.Is(a.env.In)
	if f.tty && !terminal.Is(a.env.In) {
		return usagef("--tty needs a terminal as input")
	}
	if f.detach && (f.tty || f.interactive || (f.fresh && !f.keep)) {
		return usagef("--detach goes with neither --tty nor -i, and with --new only if the runtime is kept (--keep)")
	}
	env, err := a.processEnv(f.env)
	if err != nil {
		return err
	}
	p := &action.Process{Argv: argv, Cwd: f.dir, Env: env, Stdin: stdin && !f.tty && !f.detach}
	if f.tty {
		p.TTY = a.tty()
	}
	act, err := envelope(action.KindProcess, p, f.timeout, f.id)
	if err != nil {
		return ours{err}
	}
	return a.with(ctx, &f.where, func(rt *runtimev1.Runtime) (int, error) {
		if f.detach {
			return a.startOnly(ctx, rt, act)
		}
		x := a.execution(rt.GetId(), act, f.reconnect)
		x.stdin, x.tty, x.mayDetach = p.Stdin, f.tty, !f.fresh || f.keep
		return x.run(ctx)
	})
}

func (a *app) execution(runtimeID string, act *agentv1.Action, reconnect time.Duration) *execution {
	return &execution{a: a, d: a.d, runtimeID: runtimeID, actionID: act.GetId(), action: act, reconnect: reconnect, interrupts: true}
}

// envelope makes an action whose id is known before the first try, so that the start can be tried again.
func envelope(kind string, payload any, timeout time.Duration, id string) (*agentv1.Action, error) {
	act, err := action.New(kind, payload, timeout)
	if err != nil {
		return nil, err
	}
	if id != "" {
		act.Id = id
	}
	return act, action.Normalize(act)
}

// startOnly starts an action and prints its id.
func (a *app) startOnly(ctx context.Context, rt *runtimev1.Runtime, act *agentv1.Action) (int, error) {
	resp, err := a.d.Actions.StartAction(ctx, connect.NewRequest(&runtimev1.StartActionRequest{RuntimeId: rt.GetId(), Action: act}))
	if err != nil {
		return 0, conflictHint(a.d.Explain("start action "+act.GetId(), err), act.GetId())
	}
	p := a.printer()
	return 0, p.Message(resp.Msg.GetAction(), func() error { return p.Text("%s", act.GetId()) })
}

func (a *app) tty() *action.TTY {
	rows, cols := terminal.Size(a.env.In)
	return &action.TTY{Rows: rows, Cols: cols, Term: a.env.Getenv("TERM")}
}

// processEnv reads K=V and K, the latter from this command's environment; a K that is not set here is left out.
func (a *app) processEnv(pairs []string) (map[string]string, error) {
	env, err := keyValues("--env", pairs, func(key string) (string, bool) {
		for _, kv := range a.env.Environ {
			if k, v, _ := strings.Cut(kv, "="); k == key {
				return v, true
			}
		}
		return "", false
	})
	if err != nil {
		return nil, err
	}
	if err := action.CheckEnv(env); err != nil {
		return nil, usageError{err}
	}
	return env, nil
}

// keyValues reads K=V pairs. bare gives the value of a K alone; nil refuses it.
func keyValues(flag string, pairs []string, bare func(string) (string, bool)) (map[string]string, error) {
	m := map[string]string{}
	for _, pair := range pairs {
		k, v, given := strings.Cut(pair, "=")
		if k == "" || (!given && bare == nil) {
			return nil, usagef("%s: %q is not K=V", flag, pair)
		}
		if !given {
			if v, given = bare(k); !given {
				continue
			}
		}
		m[k] = v
	}
	return m, nil
}

type runFlags struct {
	where
	timeout time.Duration
	id      string
}

func (a *app) runCommand() *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{
		Use: "run (--runtime ID | --new) [flags] 'SHELL COMMAND'", Short: "Run a command in the runtime's own shell",
		Long: `Run a command in the runtime's one lasting shell: directory, variables and functions stay for the next command.
Its output comes from a terminal, so stdout and stderr are one; commands take turns. For programs, pipes and input use exec.`,
		Example: `  openhands-rt run --runtime $R 'cd /tmp && export X=1'
  openhands-rt run --runtime $R 'pwd; echo $X'`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runShell(c.Context(), f, args[0]) },
	}
	f.bind(c.Flags())
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "stop waiting for the command after this time")
	c.Flags().StringVar(&f.id, "id", "", "id of the action: the same id never runs twice, it attaches")
	return c
}

func (a *app) runShell(ctx context.Context, f *runFlags, command string) error {
	if err := f.check(a); err != nil {
		return err
	}
	act, err := envelope(action.KindRun, &action.Run{Command: command, Blocking: true}, f.timeout, f.id)
	if err != nil {
		return ours{err}
	}
	return a.with(ctx, &f.where, func(rt *runtimev1.Runtime) (int, error) {
		return a.execution(rt.GetId(), act, f.reconnect).run(ctx)
	})
}

func (a *app) shellCommand() *cobra.Command {
	f := &where{}
	c := &cobra.Command{
		Use: "shell (--runtime ID | --new) [flags]", Short: "Open an interactive shell in a runtime",
		Long: `Open a login shell (bash) on this terminal. Leave it running with Ctrl-P Ctrl-Q; with --new and without --keep the
runtime ends with the shell.`,
		Example: "  openhands-rt shell --new\n  openhands-rt shell --runtime $R",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !terminal.Is(a.env.In) {
				return usagef("a shell needs a terminal as input; for scripts use exec or run")
			}
			return a.exec(c.Context(), &execFlags{where: *f, tty: true}, []string{"bash", "-l"})
		},
	}
	f.bind(c.Flags())
	return c
}

// get finds a runtime by its id or its session id.
func (a *app) get(ctx context.Context, ref string) (*runtimev1.Runtime, error) {
	d, err := a.dial()
	if err != nil {
		return nil, err
	}
	op := "find runtime " + ref
	resp, err := d.Runtimes.GetRuntime(ctx, connect.NewRequest(&runtimev1.GetRuntimeRequest{RuntimeId: ref}))
	if err = d.Explain(op, err); err == nil {
		return resp.Msg.GetRuntime(), nil
	}
	if !rterr.Is(err, rterr.NotFound, rterr.InvalidArgument) {
		return nil, err
	}
	bySid, sidErr := d.Runtimes.GetRuntime(ctx, connect.NewRequest(&runtimev1.GetRuntimeRequest{Sid: ref}))
	if sidErr = d.Explain(op, sidErr); sidErr == nil {
		return bySid.Msg.GetRuntime(), nil
	}
	if rterr.Is(sidErr, rterr.NotFound) {
		return nil, rterr.New(rterr.NotFound, op, "there is no runtime with this id or session id").
			WithRemedy("see `openhands-rt runtimes ls`").WithRan(rterr.RanNo).WithCause(sidErr)
	}
	return nil, sidErr
}
