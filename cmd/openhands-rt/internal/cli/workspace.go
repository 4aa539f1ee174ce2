package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"

	"connectrpc.com/connect"
	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/daemon"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// envToken has a git server's token for `workspace clone`.
const envToken = "OPENHANDS_RT_GIT_TOKEN"

// workFlags are what the commands of `workspace` have in common.
type workFlags struct {
	runtime, dir, id string
}

func (f *workFlags) bind(c *cobra.Command, dir, id bool) *cobra.Command {
	c.Flags().StringVarP(&f.runtime, "runtime", "r", "", "runtime: its id or its session id ("+envRuntime+")")
	if dir {
		c.Flags().StringVarP(&f.dir, "dir", "C", "", "folder, absolute or relative to the workspace (default: the workspace)")
	}
	if id {
		c.Flags().StringVar(&f.id, "id", "", "id of the step: the same id never does it twice")
	}
	return c
}

func (a *app) workspaceCommand() *cobra.Command {
	return parent("workspace", "Set up a runtime's workspace, and see what has changed in it",
		`  openhands-rt workspace clone https://github.com/acme/tool --runtime $R
  openhands-rt workspace setup -C tool --runtime $R
  openhands-rt workspace changes -C tool --runtime $R`,
		a.workspaceEnv(), a.workspaceClone(), a.workspaceInit(), a.workspaceSetup(), a.workspaceHooks(), a.workspaceChanges(),
		a.workspaceDiff(), a.workspaceBranch())
}

// inWorkspace finds the runtime and makes sure that the step has an id, which an error can name.
func (a *app) inWorkspace(ctx context.Context, f *workFlags) (*runtimev1.Runtime, error) {
	if f.id == "" {
		f.id = "w-" + strings.ToLower(rand.Text())
	}
	return a.getOrDefault(ctx, f.runtime)
}

// stepError explains why a step has failed. One whose answer was lost goes on, and can be asked for.
func (a *app) stepError(op string, f *workFlags, err error) error {
	explained := a.d.Explain(op, err)
	if !daemon.Transient(err) {
		return explained
	}
	e := *rterr.From(explained)
	return e.WithRan(rterr.RanUnknown).WithRemedy("it goes on in the runtime if it had begun; wait for it with the same command and --id " + f.id)
}

func (a *app) workspaceEnv() *cobra.Command {
	f := &workFlags{}
	return f.bind(&cobra.Command{
		Use: "env KEY=VALUE|KEY...", Short: "Set variables in a runtime's shell and ~/.bashrc", Args: minArgs(1),
		Long: `Export variables in the runtime's shell, in its IPython kernel if it has one, and keep them in ~/.bashrc there. Values are taken
as they are. A KEY alone is taken from this command's environment, which keeps a secret out of its arguments.`,
		Example: "  openhands-rt workspace env -r demo LANG=C.UTF-8 GITHUB_TOKEN",
		RunE: func(c *cobra.Command, args []string) error {
			env, err := a.processEnv(args)
			if err != nil {
				return err
			}
			for _, arg := range args {
				if _, set := env[arg]; !set && !strings.Contains(arg, "=") {
					return usagef("%s is not set here", arg)
				}
			}
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return err
			}
			resp, err := a.d.Workspaces.SetEnv(c.Context(), connect.NewRequest(&runtimev1.SetEnvRequest{RuntimeId: rt.GetId(), StepId: f.id, Env: env}))
			if err != nil {
				return a.stepError("set variables", f, err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error { return nil })
		},
	}, false, true)
}

func (a *app) workspaceClone() *cobra.Command {
	f := &workFlags{}
	var tokenFile string
	req := &runtimev1.CloneRepositoryRequest{}
	c := &cobra.Command{
		Use: "clone URL", Short: "Clone a git repository into a runtime's workspace", Args: exactArgs(1),
		Long: `Clone a git repository and print its folder. Without --branch a new branch openhands-workspace-XXXXXXXX is made.

A token for an https URL comes from --token-file or from ` + envToken + `. It is sent to that server alone, and kept nowhere in the
runtime.`,
		Example: `  openhands-rt workspace clone https://github.com/acme/tool --runtime $R
  openhands-rt workspace clone https://git.example.com/t.git --branch main --token-file token --runtime $R`,
		RunE: func(c *cobra.Command, args []string) error {
			token, err := a.token(tokenFile)
			if err != nil {
				return err
			}
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return err
			}
			req.RuntimeId, req.StepId, req.Url, req.Dir, req.Token = rt.GetId(), f.id, args[0], f.dir, token
			resp, err := a.d.Workspaces.CloneRepository(c.Context(), connect.NewRequest(req))
			if err != nil {
				return a.stepError("clone", f, err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error { return p.Text("%s", resp.Msg.GetDir()) })
		},
	}
	c.Flags().StringVarP(&req.Branch, "branch", "b", "", "branch, tag or commit to check out")
	c.Flags().StringVar(&req.Username, "username", "", "user name that goes with the token (default: what the server's kind wants)")
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the token; - is the input")
	return f.bind(c, true, true)
}

// token reads a token from a file, or from the environment.
func (a *app) token(file string) (string, error) {
	const most = 64 << 10
	switch file {
	case "":
		return strings.TrimSpace(a.env.Getenv(envToken)), nil
	case "-":
		text, err := io.ReadAll(io.LimitReader(a.env.In, most))
		return strings.TrimSpace(string(text)), rterr.Wrap(rterr.InvalidArgument, "read the token", err)
	default:
		text, err := os.ReadFile(file)
		return strings.TrimSpace(string(text)), rterr.Wrap(rterr.InvalidArgument, "read the token", err)
	}
}

func (a *app) workspaceInit() *cobra.Command {
	f := &workFlags{}
	return f.bind(&cobra.Command{
		Use: "init", Short: "Make a git repository of a folder", Args: noArgs,
		Example: "  openhands-rt workspace init --runtime $R",
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return err
			}
			resp, err := a.d.Workspaces.InitRepository(c.Context(), connect.NewRequest(
				&runtimev1.InitRepositoryRequest{RuntimeId: rt.GetId(), StepId: f.id, Dir: f.dir}))
			if err != nil {
				return a.stepError("init repository", f, err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error { return p.Text("%s", resp.Msg.GetDir()) })
		},
	}, true, true)
}

func (a *app) workspaceSetup() *cobra.Command {
	f := &workFlags{}
	return f.bind(&cobra.Command{
		Use: "setup", Short: "Run .openhands/setup.sh of a folder in the runtime's shell", Args: noArgs,
		Long: `Source .openhands/setup.sh of a folder in the runtime's shell and print its output. Without such a script nothing happens. The exit
code is the script's, 124 if it took more than 10 minutes, and 125 for a failure of openhands-rt itself.`,
		Example: "  openhands-rt workspace setup -C tool --runtime $R",
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return ours{err}
			}
			resp, err := a.d.Workspaces.RunSetupScript(c.Context(), connect.NewRequest(
				&runtimev1.RunSetupScriptRequest{RuntimeId: rt.GetId(), StepId: f.id, Dir: f.dir}))
			if err != nil {
				return ours{a.stepError("run the set-up script", f, err)}
			}
			return outcome(a.setupDone(resp.Msg))
		},
	}, true, true)
}

func (a *app) setupDone(resp *runtimev1.RunSetupScriptResponse) (int, error) {
	p := a.printer()
	err := p.Message(resp, func() error {
		switch {
		case !resp.GetFound():
			a.note("there is no .openhands/setup.sh")
		case resp.GetTimedOut():
			a.note("the script took too long and was interrupted")
		}
		if resp.GetOutput() == "" {
			return nil
		}
		return p.Text("%s", resp.GetOutput())
	})
	switch {
	case err != nil:
		return 0, err
	case resp.GetTimedOut():
		return codeTimedOut, nil
	case resp.GetExitCode() < 0:
		return codeFailure, nil
	default:
		return int(resp.GetExitCode()), nil
	}
}

func (a *app) workspaceHooks() *cobra.Command {
	f := &workFlags{}
	return f.bind(&cobra.Command{
		Use: "hooks", Short: "Let a repository's pre-commit hook run .openhands/pre-commit.sh", Args: noArgs,
		Example: "  openhands-rt workspace hooks -C tool --runtime $R",
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return err
			}
			resp, err := a.d.Workspaces.InstallGitHooks(c.Context(), connect.NewRequest(
				&runtimev1.InstallGitHooksRequest{RuntimeId: rt.GetId(), StepId: f.id, Dir: f.dir}))
			if err != nil {
				return a.stepError("install git hooks", f, err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error {
				if !resp.Msg.GetFound() {
					a.note("there is no .openhands/pre-commit.sh")
				}
				if resp.Msg.GetKept() {
					a.note("the hook that was there is pre-commit.local now")
				}
				return nil
			})
		},
	}, true, true)
}

func (a *app) workspaceChanges() *cobra.Command {
	f := &workFlags{}
	return f.bind(&cobra.Command{
		Use: "changes", Short: "List the files that differ from the repository's base", Args: noArgs,
		Long: `List the files of a folder, and of the repositories one level below it, that differ from their base: the same branch at origin, else
where the current one began. A is added, M modified, D deleted, U a conflict.`,
		Example: "  openhands-rt workspace changes --runtime $R",
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return err
			}
			resp, err := a.d.Workspaces.ListChanges(c.Context(), connect.NewRequest(&runtimev1.ListChangesRequest{RuntimeId: rt.GetId(), Dir: f.dir}))
			if err != nil {
				return a.d.Explain("list changes", err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error {
				for _, change := range resp.Msg.GetChanges() {
					if err := p.Text("%s %s", letter(change.GetStatus()), render.Cell(change.GetPath())); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}, true, false)
}

// letter is git's.
func letter(s runtimev1.ChangeStatus) string {
	switch s {
	case runtimev1.ChangeStatus_CHANGE_STATUS_ADDED:
		return "A"
	case runtimev1.ChangeStatus_CHANGE_STATUS_MODIFIED:
		return "M"
	case runtimev1.ChangeStatus_CHANGE_STATUS_DELETED:
		return "D"
	case runtimev1.ChangeStatus_CHANGE_STATUS_UNMERGED:
		return "U"
	default:
		return "?"
	}
}

func (a *app) workspaceDiff() *cobra.Command {
	f := &workFlags{}
	return f.bind(&cobra.Command{
		Use: "diff FILE", Short: "Show how a file differs from the repository's base", Args: exactArgs(1),
		Long:    "Show how a file differs from its repository's base, see `openhands-rt workspace changes`. With -o json both sides are there.",
		Example: "  openhands-rt workspace diff README.md -C tool --runtime $R",
		RunE: func(c *cobra.Command, args []string) error {
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return err
			}
			resp, err := a.d.Workspaces.GetDiff(c.Context(), connect.NewRequest(
				&runtimev1.GetDiffRequest{RuntimeId: rt.GetId(), Dir: f.dir, Path: args[0]}))
			if err != nil {
				return a.d.Explain("get diff", err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error {
				_, err := fmt.Fprint(a.env.Out, udiff.Unified("a/"+args[0], "b/"+args[0], resp.Msg.GetOriginal(), resp.Msg.GetModified()))
				return err
			})
		},
	}, true, false)
}

func (a *app) workspaceBranch() *cobra.Command {
	f := &workFlags{}
	return f.bind(&cobra.Command{
		Use: "branch", Short: "Print a repository's current branch", Args: noArgs,
		Example: "  openhands-rt workspace branch -C tool --runtime $R",
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := a.inWorkspace(c.Context(), f)
			if err != nil {
				return err
			}
			resp, err := a.d.Workspaces.GetBranch(c.Context(), connect.NewRequest(&runtimev1.GetBranchRequest{RuntimeId: rt.GetId(), Dir: f.dir}))
			if err != nil {
				return a.d.Explain("get branch", err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error { return p.Text("%s", resp.Msg.GetBranch()) })
		},
	}, true, false)
}
