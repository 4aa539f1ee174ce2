package v0

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const stock = `/openhands/micromamba/bin/micromamba run -n openhands poetry run python -u -m openhands.runtime.action_execution_server 60000 ` +
	`--working-dir /workspace --plugins agent_skills jupyter vscode --username openhands --user-id 1001 --no-enable-browser`

func TestParseCommandOfTheStockClient(t *testing.T) {
	list, err := json.Marshal(strings.Fields(stock))
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(stock)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range [][]byte{list, line} {
		c, err := ParseCommand(raw)
		want := Command{
			Words: strings.Fields(stock), Module: ServerModule, Port: 60000, WorkingDir: "/workspace",
			Plugins: []string{"agent_skills", "jupyter", "vscode"}, Username: "openhands", UserID: 1001,
		}
		if diff := cmp.Diff(want, c); diff != "" || err != nil || !c.ActionServer() {
			t.Errorf("%v %s", err, diff)
		}
	}
}

func TestParseCommandForms(t *testing.T) {
	base := Command{Username: "openhands", UserID: 1000, Browser: true}
	with := func(change func(*Command)) Command {
		c := base
		change(&c)
		return c
	}
	for line, want := range map[string]Command{
		``:                           base,
		`python -m x.y --port 60000`: with(func(c *Command) { c.Module, c.Port = "x.y", 60000 }),
		`cd /tmp && exec python -m openhands.server; rm -rf /`: with(func(c *Command) {
			c.Module, c.Unknown = "openhands.server", []string{"rm", "-rf", "/"}
		}),
		`-m s --working-dir="/a b" 8000 --plugins vscode --enable-browser`: with(func(c *Command) {
			c.Module, c.WorkingDir, c.Port, c.Plugins = "s", "/a b", 8000, []string{"vscode"}
		}),
		`-m s --no-enable-browser 7 --browsergym-eval-env a b --new-flag 1 --other --user-id=0 --username root`: with(func(c *Command) {
			c.Module, c.Port, c.Browser, c.EvalEnv, c.UserID, c.Username = "s", 7, false, "a b", 0, "root"
			c.Unknown = []string{"--new-flag", "1", "--other"}
		}),
		`-m s --working-dir`:        with(func(c *Command) { c.Module, c.Unknown = "s", []string{"--working-dir"} }),
		`-m`:                        with(func(c *Command) { c.Unknown = []string{"-m"} }),
		`sh -c 'python -m s 60000'`: with(func(c *Command) { c.Unknown = []string{"sh", "-c", "python -m s 60000"} }),
		`-m s $(touch /x) $HOME`:    with(func(c *Command) { c.Module, c.Unknown = "s", []string{"$(touch /x)", "$HOME"} }),
	} {
		raw, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCommand(raw)
		c.Words = nil
		if diff := cmp.Diff(want, c); diff != "" || err != nil {
			t.Errorf("%s: %v %s", line, err, diff)
		}
	}
	if c, err := ParseCommand([]byte("null")); err != nil || c.ActionServer() || c.Words != nil {
		t.Error(c, err)
	}
}

func TestParseCommandRefuses(t *testing.T) {
	many, err := json.Marshal(slices.Repeat([]string{"x"}, maxCommandWords+1))
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{`5`, `{"a":1}`, `["a",5]`, `["-m","s","--user-id","x"]`, `"-m s --port=-1"`, `"a 'b"`, ``, string(many)} {
		if _, err := ParseCommand([]byte(raw)); !rterr.Is(err, rterr.InvalidArgument) || rterr.From(err).Field != "command" {
			t.Errorf("%.40s: %v", raw, err)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add([]byte(`["python","-m","openhands.runtime.action_execution_server","60000","--plugins"]`))
	f.Add([]byte(`"a \"b; c' | d' && -m x --port=5"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseCommand(raw)
		if err == nil && (c.Port < 0 || c.UserID < 0 || len(c.Unknown) > len(c.Words)+maxCommandWords) {
			t.Errorf("%+v", c)
		}
	})
}
