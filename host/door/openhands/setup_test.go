package openhands

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestTheSetUpInARealShell(t *testing.T) {
	home, dir := t.TempDir(), filepath.Join(t.TempDir(), "it's a", "new $folder")
	shell := func(script string) string {
		t.Helper()
		cmd := exec.Command("bash", "-c", "shopt -s expand_aliases\n"+script)
		cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for range 2 { // as after the end of a shell
		if got := shell(setupCommand(dir) + "\npwd; alias git"); got != dir+"\nalias git='git --no-pager'" {
			t.Errorf("%q", got)
		}
	}
	rc, err := os.ReadFile(filepath.Join(home, ".bashrc"))
	if err != nil || string(rc) != "alias git=\"git --no-pager\"\n" {
		t.Errorf("%q, %v", rc, err)
	}
	if got := shell(". ~/.bashrc\nalias git"); !strings.Contains(got, "--no-pager") {
		t.Errorf("a later shell: %q", got)
	}
}

func TestASetUpThatCannotBeDoneFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", setupCommand(file+"/below"))
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	if err := cmd.Run(); err == nil {
		t.Error("no error")
	}
}

func TestWorkingDir(t *testing.T) {
	for _, c := range []struct{ asked, workspace, want string }{
		{"", "/workspace", "/workspace"}, {"/workspace", "/workspace", "/workspace"}, {"/workspace/", "/somewhere/else", "/somewhere/else"},
		{"/workspace/project", "/workspace", "/workspace/project"}, {"relative", "/workspace", "/workspace"}, {"/srv/../opt", "/w", "/opt"},
	} {
		v := &runtimev1.Runtime{Workspace: c.workspace, Labels: map[string]string{labelWorkingDir: c.asked}}
		if got := workingDir(v); got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.asked, c.workspace, got, c.want)
		}
	}
}

func TestASetUpIsDoneAgainAfterAPassingFailureAlone(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {rterr.New(rterr.Provider, "", "no such folder"), false}, {rterr.New(rterr.Network, "", "cut"), true},
		{rterr.New(rterr.SandboxPaused, "", "paused"), true},
	} {
		s := &setup{done: make(chan struct{}), err: c.err}
		if s.again() {
			t.Errorf("%v: again while it runs", c.err)
		}
		close(s.done)
		if s.again() != c.want {
			t.Errorf("%v: again is %v", c.err, !c.want)
		}
	}
}
