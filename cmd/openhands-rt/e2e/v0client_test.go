package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// v0client is written in another language from the protocol's facts; nothing of this repository is in it.
const v0client = "../../../scripts/internal/v0client/v0client.py"

func TestSection12(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is needed")
	}
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	flags := o.missing()
	for name, args := range map[string][]string{"one session": {"--sid", "one"}, "two sessions at once": {"--sid", "two", "--sessions", "2"}} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), python, append(append([]string{v0client, o.url}, args...), flags...)...)
			cmd.Env = append(os.Environ(), "SANDBOX_API_KEY="+o.key)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "all as it should be") {
				t.Errorf("%v\n%s\n%s", err, out, d.logs())
			}
		})
	}
}

// missing are the flags for what the sandboxes of this machine do not have.
func (o *remote) missing() []string {
	o.t.Helper()
	s := o.begin("probe")
	defer o.call(http.MethodPost, "/stop", object{"runtime_id": s.id})
	body := `{"action":{"action":"run_ipython","args":{"code":"1"},"timeout":60}}`
	code, text := ask(o.t, http.MethodPost, s.url+"/execute_action", body, "X-Session-API-Key", s.key)
	if code == http.StatusInternalServerError && strings.Contains(text, "JupyterRequirement not found") {
		return []string{"--no-jupyter"}
	}
	return nil
}
