package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSection12AsPrinted drives the message sequence of a new session with a client in Python, once alone and once with two sessions at
// the same time.
func TestSection12AsPrinted(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(filepath.Join(buildDir, "python", "bin", "python3")); err != nil {
		t.Skip("there is no Python with ipykernel; → scripts/python")
	}
	d := newDaemon(t, "")
	d.start()
	url, _, key := d.endpoint()
	for _, sessions := range []string{"1", "2"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
		cmd := exec.CommandContext(ctx, "python3", "../../../scripts/internal/v0client/v0client.py", "--sessions", sessions, url)
		cmd.Env = append(cleanEnv(), "SANDBOX_API_KEY="+key)
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s sessions: %v\n%s", sessions, err, out)
		}
	}
}
