package spawn

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/agent/boot"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) {
	if err := KeepDescriptors(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// TestAgentReadsSpec: every field that is written is one that the agent knows, under the same name and with the same meaning.
func TestAgentReadsSpec(t *testing.T) {
	spec := Spec{
		Schema: SpecSchema, Socket: "/s/agent.sock", StateDir: "/s/state", Workspace: "/workspace", Home: "/home/openhands", Username: "u",
		SandboxID: "s-1", RuntimeID: "r-1", Generation: 7, Nonce: "n", Credential: "0123456789abcdef", Env: map[string]string{"A": "b"},
		Lease: "5s", Cgroup: "/c/tree", LimitGroups: []string{"/l"}, LogFile: "/s/agent.log", ReadyFD: ReadyFD,
	}
	f, err := specFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := boot.ConfigFromReader(f)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	back, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if json.Unmarshal(want, &a) != nil || json.Unmarshal(back, &b) != nil {
		t.Fatal("not JSON")
	}
	for name, value := range a {
		x, _ := json.Marshal(value)
		y, _ := json.Marshal(b[name])
		if string(x) != string(y) {
			t.Errorf("%s: written %s, read %s", name, x, y)
		}
	}
}

// script returns a request whose agent is a shell script.
func script(t *testing.T, text string) Request {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "agent")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Request{Binary: path, Dir: dir, Log: filepath.Join(dir, "log"), Env: []string{"PATH=/bin:/usr/bin"}}
}

func TestReady(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want rterr.Reason
		says string
	}{
		"ready":       {`echo '{"pid":1}' >&4`, rterr.Unspecified, ""},
		"its error":   {`echo '{"error":{"reason":"REASON_CONFIG_INVALID","message":"no such thing"}}' >&4`, rterr.ConfigInvalid, "no such thing"},
		"bad error":   {`echo '{"error":7}' >&4`, rterr.Provider, ""},
		"no JSON":     {`echo hello >&4`, rterr.Integrity, ""},
		"says naught": {`echo last words >&2; exit 3`, rterr.Provider, "ended before"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Start(script(t, c.text))
			if err != nil {
				t.Fatal(err)
			}
			err = p.Ready(t.Context())
			if rterr.ReasonOf(err) != c.want || (err != nil && !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v", err)
			}
			<-p.Done
			if name == "says naught" && (rterr.From(err).Evidence["log"] != "last words" || !strings.Contains(rterr.From(err).Evidence["status"], "3")) {
				t.Errorf("evidence %v", rterr.From(err).Evidence)
			}
		})
	}
}

// TestSecretsStayOut: the credential is neither in the agent's arguments nor in its environment, and no descriptor but the two
// is inherited.
func TestSecretsStayOut(t *testing.T) {
	req := script(t, `cat /proc/$$/cmdline /proc/$$/environ >>out; ls /proc/$$/fd >fds; grep -c SECRET <&3 >>spec; echo '{}' >&4`)
	req.Spec.Credential = "SECRET"
	p, err := Start(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-p.Done
	for file, want := range map[string]string{"spec": "1\n"} {
		if raw, err := os.ReadFile(filepath.Join(req.Dir, file)); err != nil || string(raw) != want {
			t.Errorf("%s holds %q, %v", file, raw, err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(req.Dir, "out")); err != nil || len(raw) == 0 || strings.Contains(string(raw), "SECRET") {
		t.Errorf("%q, %v", raw, err)
	}
	fds, err := os.ReadFile(filepath.Join(req.Dir, "fds"))
	for _, fd := range strings.Fields(string(fds)) {
		if !strings.Contains(" 0 1 2 3 4 10 11 12 255 ", " "+fd+" ") { // The last are the shell's own.
			t.Errorf("descriptor %s is inherited, %v", fd, err)
		}
	}
}

func TestReadyEndsWithContext(t *testing.T) {
	p, err := Start(script(t, "exec sleep 600"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Ready(ctx); !rterr.Is(err, rterr.Timeout) {
		t.Errorf("%v", err)
	}
	if proc, err := os.FindProcess(p.PID); err != nil || proc.Kill() != nil {
		t.Errorf("kill: %v", err)
	}
	<-p.Done
}

func TestStartFails(t *testing.T) {
	req := script(t, "")
	req.Binary = "/no/such/agent"
	if p, err := Start(req); err == nil {
		t.Errorf("started %v", p.PID)
	}
	req = script(t, "")
	req.Cgroup = "/no/such/cgroup"
	if p, err := Start(req); err == nil {
		t.Errorf("started %v", p.PID)
	}
}
