package workspace

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestInitMakesATrustedRepositoryAgainAndAgain(t *testing.T) {
	b := newBox(t)
	for _, dir := range []string{"", "", "new/folder with space"} {
		resp, err := b.steps.InitRepository(t.Context(), &runtimev1.InitRepositoryRequest{RuntimeId: "r", Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetDir() != filepath.Join(b.workspace, dir) {
			t.Errorf("dir %s", resp.GetDir())
		}
		b.git(dir, "status")
	}
	trusted := strings.Fields(b.git("", "config", "--global", "--get-all", "safe.directory"))
	if len(trusted) != 4 || trusted[0] != b.workspace { // the second has two spaces in it
		t.Errorf("%q", trusted)
	}
	b.write(map[string]string{"file": ""})
	_, err := b.steps.InitRepository(t.Context(), &runtimev1.InitRepositoryRequest{RuntimeId: "r", Dir: "file"})
	want(t, err, rterr.IllegalState, "")
	_, err = b.steps.InitRepository(t.Context(), &runtimev1.InitRepositoryRequest{RuntimeId: "other"})
	want(t, err, rterr.NotFound, "")
	_, err = b.steps.InitRepository(t.Context(), &runtimev1.InitRepositoryRequest{RuntimeId: "r", Dir: "a\x00"})
	want(t, err, rterr.InvalidArgument, "dir")
}

func (b *box) setup(dir string) *runtimev1.RunSetupScriptResponse {
	b.t.Helper()
	resp, err := b.steps.RunSetupScript(b.t.Context(), &runtimev1.RunSetupScriptRequest{RuntimeId: "r", Dir: dir})
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

func TestSetupScriptIsSourced(t *testing.T) {
	b := newBox(t)
	if resp := b.setup(""); resp.GetFound() || len(b.stages) != 0 {
		t.Errorf("without a script: %v, stages %v", resp, b.stages)
	}
	b.write(map[string]string{"it's/.openhands/setup.sh": "export FROM_SETUP=yes\necho hello; pwd\nfalse\n"})
	resp := b.setup("it's")
	if !resp.GetFound() || resp.GetExitCode() != 1 || strings.TrimSpace(resp.GetOutput()) != "hello\n"+filepath.Join(b.workspace, "it's") {
		t.Errorf("%v", resp)
	}
	if got := b.shellValue("FROM_SETUP"); got != "yes" {
		t.Errorf("the shell has not got %q", got)
	}
	if info, err := os.Stat(filepath.Join(b.workspace, "it's/.openhands/setup.sh")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	b.write(map[string]string{".openhands/setup.sh": "seq 1 10000\n"})
	if resp := b.setup(""); resp.GetExitCode() != 0 || strings.Count(resp.GetOutput(), "\n") < 9_999 {
		t.Errorf("exit code %d, %d bytes: a hidden output is not cut", resp.GetExitCode(), len(resp.GetOutput()))
	}
	b.write(map[string]string{".openhands/setup.sh": "exit 7\n"})
	if resp := b.setup(""); resp.GetExitCode() != 7 {
		t.Errorf("a script that ends the shell: %v", resp)
	}
	if got := b.shell("echo alive").Content; strings.TrimSpace(got) != "alive" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestASetupScriptThatDoesNotEndIsInterrupted(t *testing.T) {
	b := newBox(t)
	b.steps.scriptLimit = time.Second // long enough to begin, on a slow machine too
	b.shell("true")
	b.write(map[string]string{".openhands/setup.sh": "echo begun\nsleep 1000\n"})
	if resp := b.setup(""); !resp.GetTimedOut() || resp.GetExitCode() != -1 {
		t.Errorf("%v", resp)
	}
	if got := b.shell("echo alive").Content; !strings.Contains(got, "alive") {
		t.Errorf("the shell is not free: %q", got)
	}
	b.occupy()
	_, err := b.steps.RunSetupScript(t.Context(), &runtimev1.RunSetupScriptRequest{RuntimeId: "r"})
	want(t, err, rterr.IllegalState, "")
	b.shell("C-c", asInput)
}

func (b *box) hooks(dir string) *runtimev1.InstallGitHooksResponse {
	b.t.Helper()
	resp, err := b.steps.InstallGitHooks(b.t.Context(), &runtimev1.InstallGitHooksRequest{RuntimeId: "r", Dir: dir})
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

func TestHooksRunTheScriptAndKeepWhatWasThere(t *testing.T) {
	b := newBox(t)
	b.git("", "init", "-q")
	if resp := b.hooks(""); resp.GetFound() || len(b.stages) != 0 {
		t.Errorf("without a script: %v, %v", resp, b.stages)
	}
	b.write(map[string]string{".openhands/pre-commit.sh": "echo checked >> checked\n[ ! -e bad ]\n", ".git/hooks/pre-commit": "echo theirs\n"})
	for i, kept := range []bool{true, false, false} {
		if resp := b.hooks(""); !resp.GetFound() || resp.GetKept() != kept {
			t.Errorf("time %d: %v", i, resp)
		}
	}
	hooks := filepath.Join(b.workspace, ".git", "hooks")
	hook := read(t, filepath.Join(hooks, "pre-commit"))
	if !strings.HasPrefix(hook, "#!/bin/bash\n") || !strings.Contains(hook, "This hook was installed by OpenHands") ||
		!strings.Contains(hook, `source ".openhands/pre-commit.sh"`) {
		t.Errorf("%s", hook)
	}
	if got := read(t, filepath.Join(hooks, "pre-commit.local")); got != "echo theirs\n" {
		t.Errorf("%q", got)
	}
	for _, name := range []string{"pre-commit", "pre-commit.local"} {
		if info, err := os.Stat(filepath.Join(hooks, name)); err != nil || info.Mode()&0o100 == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	b.git("", "add", ".openhands")
	b.git("", "commit", "-qm", "good")
	if got := read(t, filepath.Join(b.workspace, "checked")); got != "checked\n" {
		t.Errorf("%q", got)
	}
	b.write(map[string]string{"bad": ""})
	bad := exec.Command("git", "commit", "-qm", "bad", "--allow-empty")
	bad.Dir = b.workspace
	if err := bad.Run(); err == nil {
		t.Error("the script's no does not stop a commit")
	}
	if strings.Join(b.stages, ",") != "hooks,hooks,hooks" {
		t.Errorf("stages %v", b.stages)
	}
}

func TestHooksInAWorktreeAndWhereNoRepositoryIs(t *testing.T) {
	b := newBox(t)
	b.write(map[string]string{"main/.openhands/pre-commit.sh": "true\n", "none/.openhands/pre-commit.sh": "true\n"})
	b.git("main", "init", "-q")
	b.git("main", "add", ".")
	b.git("main", "commit", "-qm", "x")
	b.git("main", "worktree", "add", "-q", "../tree")
	if resp := b.hooks("tree"); !resp.GetFound() {
		t.Errorf("%v", resp)
	}
	if _, err := os.Stat(filepath.Join(b.workspace, "main/.git/hooks/pre-commit")); err != nil {
		t.Error(err)
	}
	_, err := b.steps.InstallGitHooks(t.Context(), &runtimev1.InstallGitHooksRequest{RuntimeId: "r", Dir: "none"})
	want(t, err, rterr.IllegalState, "")
	if !strings.Contains(err.Error(), "not a git repository") {
		t.Errorf("%v", err)
	}
}
