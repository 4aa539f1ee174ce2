package emulator_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
)

// judgePatience bounds the installation of a client and its checks.
const judgePatience = 8 * time.Minute

// installed returns the folder of one of the vendor's clients (scripts/clients). It skips where this machine lacks the language.
func installed(t *testing.T, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), judgePatience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "../../../scripts/clients", name)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		t.Skipf("no %s here: %s", name, complaint.String())
	}
	if err != nil {
		t.Fatalf("install %s: %v\n%s", name, err, complaint.String())
	}
	return strings.TrimSpace(string(out))
}

// judge lets a client's checks run against an emulator, and everything that passes be compared with the document.
func judge(t *testing.T, env []string, argv ...string) {
	t.Helper()
	s := start(t, emulator.Config{Delay: 20 * time.Millisecond})
	base, compared := judged(t, s)
	runJudge(t, s, append(env, "RUNLOOP_BASE_URL="+base), argv...)
	t.Logf("%d requests compared with the document, %d beyond it", compared.seen, compared.unknown)
	if compared.seen < 50 {
		t.Errorf("only %d requests were compared with the document", compared.seen)
	}
}

// runJudge lets a client's checks run against an emulator.
func runJudge(t *testing.T, s *emulator.Server, env []string, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), judgePatience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), env...), "RUNLOOP_API_KEY="+s.Key(), "RUNLOOP_TUNNEL_TEMPLATE="+s.TunnelTemplate())
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s\n%s", out, s.Stats())
	if left := s.Stats().Alive; left > 0 {
		t.Errorf("%d devboxes are left", left)
	}
}

func TestJudgeTypeScript(t *testing.T) {
	folder := installed(t, "node")
	// The script lies where its client is found.
	script, err := os.ReadFile("testdata/node/judge.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for name, http2 := range map[string]string{"http2": "true", "http1": "false"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Symlink(filepath.Join(folder, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "judge.mjs"), script, 0o600); err != nil {
				t.Fatal(err)
			}
			judge(t, []string{"JUDGE_HTTP2=" + http2}, "node", filepath.Join(dir, "judge.mjs"))
		})
	}
}

func TestJudgePython(t *testing.T) {
	judge(t, nil, filepath.Join(installed(t, "python"), "venv/bin/python"), "testdata/python/judge.py")
}

// TestJudgePythonNewest asks without the document in between: the newest client knows more than it says.
func TestJudgePythonNewest(t *testing.T) {
	s := start(t, emulator.Config{Delay: 20 * time.Millisecond})
	python := filepath.Join(installed(t, "python-newest"), "venv/bin/python")
	runJudge(t, s, []string{"RUNLOOP_BASE_URL=" + s.URL()}, python, "testdata/python/judge.py")
}
