package e2e

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const twoBackends = `
default_backend: %
backends:
  blue: {plugin: local, config: {env: {COLOUR: blue}}}
  red: {plugin: local, config: {env: {COLOUR: red}}}
`

func TestTwoBackendsAndASwapByConfig(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, strings.ReplaceAll(twoBackends, "%", "blue"))
	d.start()
	old := d.must("runtimes", "start")
	colour := func(id string) string { return d.must("exec", "--runtime", id, "--", "sh", "-c", "echo $COLOUR") }
	if got := colour(old); got != "blue" {
		t.Errorf("the default backend's runtime is %q", got)
	}
	if got := colour(d.must("runtimes", "start", "--backend", "red")); got != "red" {
		t.Errorf("the chosen backend's runtime is %q", got)
	}
	d.writeConfig(strings.ReplaceAll(twoBackends, "%", "red"))
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(limit)
	for { // a signal has no answer: new runtimes tell
		if got := colour(d.must("runtimes", "start")); got == "red" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("new runtimes are still %q", got)
		}
	}
	if got := colour(old); got != "blue" {
		t.Errorf("the old runtime is %q now", got)
	}
}

func TestAGoModuleIsBuiltInASandbox(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start")
	args := []string{"exec", "--runtime", id, "-w", "/workspace"}
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GOFLAGS", "GONOSUMDB", "GOTOOLCHAIN"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-e", name+"="+strings.TrimSpace(string(value)))
	}
	script := `set -e
mkdir m && cd m && go mod init example.com/m >/dev/null 2>&1
cat >m_test.go <<'GO'
package m

import (
	"testing"

	"github.com/google/uuid"
)

func TestUUID(t *testing.T) {
	if uuid.NewString() == uuid.NewString() {
		t.Fatal("twice the same")
	}
}
GO
go get github.com/google/uuid@v1.6.0 && go test ./...`
	goBin, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, "-e", "PATH="+strings.TrimSuffix(goBin, "/go")+":/usr/bin:/bin", "--", "sh", "-c", script)
	r := d.cli(args...)
	if r.code != 0 || !strings.Contains(r.stdout, "ok") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
