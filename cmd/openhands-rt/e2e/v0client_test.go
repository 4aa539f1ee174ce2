package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// v0client is written in another language from the protocol's facts; nothing of this repository is in it.
const v0client = "../../../scripts/internal/v0client/v0client.py"

// TestSection12 goes through the printed sequence, jupyter and vscode requested: one session, and two at once.
func TestSection12(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is needed")
	}
	d := withPython(t)
	o := d.remote()
	for _, args := range [][]string{{"--sid", "one"}, {"--sid", "two", "--sessions", "2"}} {
		cmd := exec.CommandContext(t.Context(), python, append([]string{v0client, o.url}, args...)...)
		cmd.Env = append(os.Environ(), "SANDBOX_API_KEY="+o.key)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "all as it should be") {
			t.Errorf("%v: %v\n%s\n%s", args, err, out, d.logs())
		}
	}
}
