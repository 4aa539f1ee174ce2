package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/hosttest"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

func TestCloneTakesItsTokenFromWhereNobodySeesIt(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "demo")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(" t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func(*command){
		"file":        func(c *command) { c.args = append(c.args, "--token-file", file) },
		"input":       func(c *command) { c.args = append(c.args, "--token-file", "-"); c.input([]byte("t0ken\n")) },
		"environment": func(c *command) { c.env[envToken] = "t0ken" },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t, h, "workspace", "clone", "https://git.example.com/secret", "-b", "main", "-C", "x", "--username", "me", "-r", "demo")
			prepare(c)
			r := c.run()
			r.want(t, 0, "/workspace/tool\n", "")
			got, ok := h.Asked().(*runtimev1.CloneRepositoryRequest)
			if !ok || got.GetToken() != "t0ken" || got.GetBranch() != "main" || got.GetDir() != "x" || got.GetUsername() != "me" || got.GetStepId() == "" {
				t.Errorf("%v", got)
			}
		})
	}
	if r := run(t, h, "workspace", "clone", "u", "--token-file", file+".none", "-r", "demo"); r.code != 1 || !strings.Contains(r.err, "token") {
		t.Errorf("%+v", r)
	}
}

func TestVariablesComeFromTheArgumentsOrTheEnvironment(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "demo")
	c := newCommand(t, h, "workspace", "env", "--id", "step-1", "A=b=c", "SECRET", "EMPTY=", "-r", "demo")
	c.env["SECRET"] = "s3cret"
	c.run().want(t, 0, "", "")
	got, ok := h.Asked().(*runtimev1.SetEnvRequest)
	if !ok || len(got.GetEnv()) != 3 || got.GetEnv()["A"] != "b=c" || got.GetEnv()["SECRET"] != "s3cret" || got.GetStepId() != "step-1" {
		t.Errorf("%v", got)
	}
}

func TestAStepWhoseAnswerIsLostCanBeAskedForAgain(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "demo")
	r := run(t, h, "workspace", "init", "-C", "cut", "--id", "step-7", "-r", "demo")
	if r.code != 1 || !strings.Contains(r.err, "--id step-7") {
		t.Errorf("%+v", r)
	}
}
