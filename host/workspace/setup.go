package workspace

import (
	"context"
	_ "embed"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

//go:embed init.sh
var initScript string

//go:embed hooks.sh
var hooksScript string

// bash runs a script of ours with arguments.
func bash(name, script string, args ...string) action.Process {
	return action.Process{Argv: append([]string{"bash", "--norc", "-c", script, name}, args...), Env: gitEnv()}
}

// noGit is what bash answers for a program that is not there.
const noGit = 127

// said is the error of a script of ours that has failed.
func scriptError(d *done) error {
	if d.code() == noGit || strings.Contains(d.said(), "git: command not found") {
		return rterr.New(rterr.Unsupported, "", "the sandbox has no git").WithRemedy("use an image that has it")
	}
	e := rterr.New(rterr.IllegalState, "", "%s", d.said())
	if strings.Contains(d.said(), "not a git repository") {
		e = e.WithRemedy("make one with openhands-rt workspace init, or clone one")
	}
	return e
}

// InitRepository makes a repository of a folder.
func (s *Steps) InitRepository(ctx context.Context, req *runtimev1.InitRepositoryRequest) (*runtimev1.InitRepositoryResponse, error) {
	st, dir, err := s.at(ctx, req.GetRuntimeId(), req.GetStepId(), req.GetDir())
	if err != nil {
		return nil, err
	}
	err = st.setUp(ctx, runtime.StageWorkspace, workspaceLimit, "making a repository of "+dir, func(ctx context.Context) error {
		d, err := st.process(ctx, "init", smallLimit, bash("init", initScript, dir))
		if err == nil && d.code() != 0 {
			err = scriptError(d)
		}
		return rterr.Wrap(rterr.Internal, "init repository", err)
	})
	return &runtimev1.InitRepositoryResponse{Dir: dir}, err
}

// at is begin for a request with a folder.
func (s *Steps) at(ctx context.Context, ref, id, dir string) (*step, string, error) {
	st, err := s.begin(ctx, ref, id)
	if err != nil {
		return nil, "", err
	}
	dir, err = st.folder(dir)
	return st, dir, err
}

// has reports whether a file is there.
func (s *step) has(ctx context.Context, file string) (bool, error) {
	d, err := s.process(ctx, "look", smallLimit, action.Process{Argv: []string{"test", "-f", file}})
	if err != nil {
		return false, err
	}
	return d.code() == 0, nil
}

// RunSetupScript sources the set-up script of a folder.
func (s *Steps) RunSetupScript(ctx context.Context, req *runtimev1.RunSetupScriptRequest) (*runtimev1.RunSetupScriptResponse, error) {
	st, dir, err := s.at(ctx, req.GetRuntimeId(), req.GetStepId(), req.GetDir())
	if err != nil {
		return nil, err
	}
	found, err := st.has(ctx, scriptIn(dir, "setup.sh"))
	if err != nil || !found {
		return &runtimev1.RunSetupScriptResponse{}, rterr.Wrap(rterr.Internal, "look for the set-up script", err)
	}
	resp := &runtimev1.RunSetupScriptResponse{Found: true}
	err = st.setUp(ctx, runtime.StageWorkspace, workspaceLimit, "running .openhands/setup.sh", func(ctx context.Context) error {
		return rterr.Wrap(rterr.Internal, "run the set-up script", st.source(ctx, dir, s.scriptLimit, resp))
	})
	return resp, err
}

func (s *step) source(ctx context.Context, dir string, limit time.Duration, resp *runtimev1.RunSetupScriptResponse) error {
	command := `\builtin cd -- ` + quote(dir) + ` && chmod +x .openhands/setup.sh && \builtin source .openhands/setup.sh`
	obs, d, err := s.run(ctx, "setup", command, limit)
	if err != nil {
		return err
	}
	if busy(obs, d) {
		return errBusy()
	}
	resp.ExitCode = int32(obs.Extras.Metadata.ExitCode) //nolint:gosec // an exit code
	resp.Output = middleCut(obs.Content)
	if d.observation.GetOutcome() == agentv1.Outcome_OUTCOME_TIMED_OUT {
		resp.TimedOut, resp.ExitCode = true, -1
		return s.interruptShell(ctx)
	}
	return nil
}

// interruptShell ends what still runs in the shell, so that others can use it.
func (s *step) interruptShell(ctx context.Context) error {
	_, err := s.act(ctx, "interrupt", action.KindRun, action.Run{Command: "C-c", IsInput: true}, endLimit)
	return err
}

// middleCut keeps what an answer can carry.
func middleCut(text string) string {
	const half = 512 << 10
	if len(text) <= 2*half {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.ToValidUTF8(text[:half]+"\n[...]\n"+text[len(text)-half:], "\uFFFD")
}

// InstallGitHooks installs the pre-commit hook of a repository.
func (s *Steps) InstallGitHooks(ctx context.Context, req *runtimev1.InstallGitHooksRequest) (*runtimev1.InstallGitHooksResponse, error) {
	st, dir, err := s.at(ctx, req.GetRuntimeId(), req.GetStepId(), req.GetDir())
	if err != nil {
		return nil, err
	}
	found, err := st.has(ctx, scriptIn(dir, "pre-commit.sh"))
	if err != nil || !found {
		return &runtimev1.InstallGitHooksResponse{}, rterr.Wrap(rterr.Internal, "look for the pre-commit script", err)
	}
	resp := &runtimev1.InstallGitHooksResponse{Found: true}
	err = st.setUp(ctx, runtime.StageGitHooks, hooksLimit, "installing git hooks", func(ctx context.Context) error {
		d, err := st.process(ctx, "hooks", smallLimit, bash("hooks", hooksScript, dir))
		if err == nil && d.code() != 0 {
			err = scriptError(d)
		}
		if err == nil {
			resp.Kept = strings.Contains(string(d.stdout), "kept")
		}
		return rterr.Wrap(rterr.Internal, "install git hooks", err)
	})
	return resp, err
}
