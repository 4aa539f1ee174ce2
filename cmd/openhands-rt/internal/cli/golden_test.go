package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/hosttest"
)

// TestGolden compares what commands print, to both streams, with the files under testdata.
func TestGolden(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "demo")
	h.Add("r-2", "other")
	if r := run(t, h, "exec", "-r", "demo", "--id", "a-2", "--", "no-such-program"); r.code != 127 {
		t.Fatalf("%+v", r)
	}
	if r := run(t, h, "exec", "-r", "demo", "--id", "a-1", "--", "sh", "-c", "printf 12345; exit 3"); r.code != 3 {
		t.Fatalf("%+v", r)
	}
	for name, args := range map[string]string{
		"orientation": "", "help": "--help", "help-exec": "exec --help", "help-cp": "cp --help", "help-start": "runtimes start --help",
		"runtimes-ls": "runtimes ls", "runtimes-ls-json": "runtimes ls -o json", "runtimes-show": "runtimes show demo",
		"runtimes-watch": "runtimes watch r-1", "runtimes-watch-json": "runtimes watch r-1 -o json",
		"actions-ls": "actions ls", "actions-show": "actions show a-1", "backends-ls": "backends ls", "plugins-ls": "plugins ls",
		"events": "events", "events-follow": "events --follow --after 2", "ports-ls": "ports ls -r demo", "ports-ls-json": "ports ls -r demo -o json",
		"workspace-help": "workspace --help", "workspace-clone-help": "workspace clone --help", "workspace-clone": "workspace clone https://h/tool -r demo",
		"workspace-clone-json": "workspace clone https://h/tool -r demo -o json", "workspace-init": "workspace init -r demo",
		"workspace-setup": "workspace setup -r demo", "workspace-setup-bad": "workspace setup -C bad -r demo",
		"workspace-setup-none": "workspace setup -C none -r demo", "workspace-setup-slow": "workspace setup -C slow -r demo",
		"workspace-hooks": "workspace hooks -r demo", "workspace-changes": "workspace changes -r demo",
		"workspace-changes-json": "workspace changes -r demo -o json", "workspace-diff": "workspace diff f -r demo",
		"workspace-branch": "workspace branch -r demo", "workspace-env": "workspace env A=b -r demo", "workspace-env-unset": "workspace env NOPE -r demo",
		"workspace-no-runtime": "workspace init", "error-clone": "workspace clone https://git.example.com/secret -r demo",
		"error-conflict": "exec -r demo --id a-1 -- true", "error-conflict-detach": "exec -r demo --id a-1 --detach -- true",
		"events-json": "events -o json", "url": "url 80 -r demo", "states": "states",
		"error-quota": "runtimes start --backend full", "error-quota-json": "runtimes start --backend full -o json",
		"error-sid": "runtimes start --sid demo", "error-program": "exec -r demo --id a-2 -- no-such-program",
		"error-runtime": "runtimes show nobody", "error-action": "actions show nothing", "error-command": "runtime lss",
		"error-flag": "runtimes ls --what", "error-limit": "runtimes start --limit-memory lots", "error-output": "version -o xml",
		"error-unsupported": "runtimes resume demo", "error-stop": "runtimes stop",
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t, h, strings.Fields(args)...)
			c.env["HOME"] = "/home/u"
			r := c.run()
			golden(t, name+".txt", r.out+"--- stderr, exit code "+strconv.Itoa(r.code)+"\n"+r.err, h.URL, "URL", h.DataDir, "DATA")
		})
	}
}

func TestNoSecretIsShown(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "demo")
	for _, args := range []string{"runtimes ls", "runtimes show demo", "runtimes watch demo"} {
		if r := run(t, h, strings.Fields(args)...); strings.Contains(r.out+r.err, "secret-session-key") || strings.Contains(r.out+r.err, hosttest.Key) {
			t.Errorf("%s shows a key: %+v", args, r)
		}
	}
}

func TestTheDaemonIsNotThere(t *testing.T) {
	dir := t.TempDir()
	at := func(h *hosttest.Host, env map[string]string, args ...string) result {
		c := newCommand(t, h, args...)
		for k, v := range env {
			c.env[k] = v
		}
		return c.run()
	}
	none := map[string]string{"OPENHANDS_RT_DATA_DIR": dir}
	at(nil, none, "runtimes", "ls").want(t, 1, "", "openhands-rt: find the daemon: no daemon runs here: there is no "+dir+
		"/endpoint.json\n→ start one with `openhands-rt serve`, or name a running one with --url and --key-file\n")
	if r := at(nil, none, "exec", "--new", "--", "true"); r.code != 125 {
		t.Errorf("exec without a daemon: %+v", r)
	}

	h := hosttest.New(t)
	h.Stop()
	at(h, nil, "runtimes", "ls").want(t, 1, "", "openhands-rt: list runtimes: the daemon has died: "+h.DataDir+"/endpoint.json names "+h.URL+
		", where nothing listens\n→ start it again with `openhands-rt serve`: it takes its runtimes and actions up again\n")

	h = hosttest.New(t)
	at(h, map[string]string{"OPENHANDS_RT_KEY": "wrong"}, "runtimes", "ls").want(t, 1, "",
		"openhands-rt: list runtimes: the daemon at "+h.URL+" does not accept the key from OPENHANDS_RT_KEY\n"+
			"→ use the key of that daemon: --key-file, OPENHANDS_RT_KEY_FILE or OPENHANDS_RT_KEY\n")
	other := map[string]string{"OPENHANDS_RT_URL": "http://127.0.0.1:1"}
	if r := at(h, other, "runtimes", "ls"); r.code != 1 || !strings.Contains(r.err, "there is no key for http://127.0.0.1:1") {
		t.Errorf("the key of this machine's daemon must not go elsewhere: %+v", r)
	}
	if r := at(h, map[string]string{"OPENHANDS_RT_URL": h.URL}, "runtimes", "ls"); r.code != 0 {
		t.Errorf("the same daemon by its URL: %+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "endpoint.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := at(nil, none, "runtimes", "ls"); r.code != 1 || !strings.Contains(r.err, "damaged") {
		t.Errorf("a damaged endpoint file: %+v", r)
	}
}

func TestRuntimesChange(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "demo")
	h.Add("r-2", "")
	run(t, h, "runtimes", "pause", "demo").want(t, 0, "r-1\n", "")
	r := run(t, h, "runtimes", "stop", "nobody", "demo")
	if r.code != 1 || r.out != "r-1\n" || !strings.Contains(r.err, "nobody") {
		t.Errorf("one of two is not there: %+v", r)
	}
	run(t, h, "runtimes", "stop", "--all").want(t, 0, "r-2\nr-1\n", "")
	run(t, h, "runtimes", "start", "--label", "a=b").want(t, 0, "r-new-3\n", "")
	run(t, h, "runtimes", "start", "--sid", "demo", "--attach").want(t, 1, "", "openhands-rt: start runtime r-1: it was stopped before it was ready\n→ start a new runtime\n")
}

func TestConfigCommands(t *testing.T) {
	c := newCommand(t, nil, "config", "show", "--set", "log.level=debug", "--data-dir", "/tmp/x")
	if r := c.run(); r.code != 0 || !strings.Contains(r.out, "/tmp/x") {
		t.Errorf("%+v", r)
	}
	if r := run(t, nil, "config", "check", "--set", "log.level=loud", "--set", "no.such=1"); r.code != 1 || strings.Count(r.err, "→") < 2 {
		t.Errorf("%+v", r)
	}
	if r := run(t, nil, "config", "schema"); r.code != 0 || !strings.HasPrefix(r.out, "{") {
		t.Errorf("%+v", r)
	}
}

func FuzzParseBytes(f *testing.F) {
	f.Add("512M")
	f.Add("2GiB")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseBytes("--limit-memory", s) })
}
