package v0_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// pythonClient is written from the protocol's facts, not from this package.
const pythonClient = "../../../scripts/internal/v0client/v0client.py"

func TestSection12WithAnotherClient(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is needed")
	}
	f := newFace(t)
	args := append([]string{pythonClient, "--direct", f.url, "--workspace", f.workspace}, f.missing()...)
	cmd := exec.CommandContext(t.Context(), python, args...)
	cmd.Env = append(os.Environ(), "SESSION_API_KEY="+sessionKey)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all as it should be") {
		t.Errorf("%v\n%s", err, out)
	}
	cmd = exec.CommandContext(t.Context(), python, args...)
	cmd.Env = append(os.Environ(), "SESSION_API_KEY=wrong")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "v0client: ") {
		t.Errorf("it is content with 403: %v\n%s", err, out)
	}
}

// missing are the flags for what this agent does not have.
func (f *face) missing() []string {
	var flags []string
	for kind, flag := range map[string]string{"run_ipython": "--no-jupyter", "read": "--no-editor"} {
		if a := f.do("POST", "/execute_action", event(kind, map[string]any{"code": "1", "path": "/"}, 60)); a.status == 500 {
			flags = append(flags, flag)
		}
	}
	return flags
}
