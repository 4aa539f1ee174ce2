package service

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

func TestMissingKey(t *testing.T) {
	r := newRig(t, emulator.Config{}, nil)
	for name, keys := range map[string]map[string]string{
		"none": nil, "empty": {config.APIKey: ""}, "blank": {config.APIKey: "  \n"}, "other": {"key": "ak_1"}, "broken": {config.APIKey: "ak 1"},
	} {
		req := r.request(nil)
		req.Credentials = keys
		_, err := r.Configure(t.Context(), req)
		e := want(t, rtgrpc.FromStatus(err), rterr.ConfigInvalid)
		if e.Field != "credentials.api_key" || !strings.Contains(e.Remedy, "RUNLOOP_API_KEY") {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if n := r.emu.Stats().Requests; n != 0 {
		t.Errorf("%d requests were sent without a key", n)
	}
}

func TestConnectFromNothing(t *testing.T) {
	r := newRig(t, emulator.Config{}, map[string]any{"env": map[string]string{"FROM": "operator"}})
	req := ask("a")
	req.Spec.Env = map[string]string{"WHO": "client"}
	got := r.connect(req)
	if got.err != nil {
		t.Fatal(got.err)
	}
	if w := []string{"STARTING_RUNTIME", "RUNTIME_STARTED", "READY"}; !slices.Equal(got.statuses, w) {
		t.Errorf("statuses %q, want %q", got.statuses, w)
	}
	if w := []string{"find done", "devbox done", "boot done", "agent done", "tunnel done", "ready done"}; !slices.Equal(got.steps, w) {
		t.Errorf("steps %q, want %q", got.steps, w)
	}
	c := got.connected
	if c.GetAttached() || c.GetHome() == "" || c.GetUsername() == "" || c.GetWorkspace() != "/workspace" {
		t.Errorf("%v", c)
	}
	if out := r.say(c, req, `echo "$FROM $WHO $PWD $HOME"`); out != "operator client /workspace "+c.GetHome() {
		t.Errorf("the environment is %q", out)
	}
	if out := r.say(c, req, `tr '\0' '\n' </proc/*/cmdline | grep -c `+req.GetAgentCredential()+` || true`); strings.HasPrefix(out, "2") {
		t.Errorf("the credential is in %s command lines", out)
	}
	if out := r.say(c, req, `grep -rl `+req.GetAgentCredential()+` ~/.openhands-rt 2>/dev/null | grep -v /state/ || echo none`); out != "none" {
		t.Errorf("the credential is on the disk: %s", out)
	}
	view, err := r.s.set.api.Retrieve(t.Context(), c.GetHandle().GetSandboxId())
	if err != nil || *view.Name != "sid-a" || view.Metadata[labelOwner] != "owner" || view.Metadata[labelIntent] != "intent-a" ||
		view.Metadata["container-name"] != "openhands-runtime-sid-a" {
		t.Errorf("%+v, %v", view, err)
	}
	r.close(c, closeDelete)
	if left := r.emu.Stats(); left.Alive != 0 || left.Created != 1 {
		t.Errorf("%s", left)
	}
}

func TestAttach(t *testing.T) {
	r := newRig(t, emulator.Config{}, nil)
	req := ask("a")
	c := r.must(req)
	r.say(c, req, "echo here >file")
	req.Handle = c.GetHandle()
	again := r.connect(req)
	if again.err != nil || !again.connected.GetAttached() || again.connected.GetHandle().GetSandboxId() != c.GetHandle().GetSandboxId() {
		t.Fatalf("%+v", again)
	}
	if w := []string{"find done", "ready done"}; !slices.Equal(again.steps, w) {
		t.Errorf("to one that runs: steps %q, want %q", again.steps, w)
	}
	if _, err := r.Pause(t.Context(), &backendv1.PauseRequest{Handle: c.GetHandle()}); err != nil {
		t.Fatal(rtgrpc.FromStatus(err))
	}
	again = r.connect(req)
	if again.err != nil || !slices.Contains(again.steps, "resume done") {
		t.Fatalf("to one that is suspended: %+v", again)
	}
	if out := r.say(again.connected, req, "cat file"); out != "here" {
		t.Errorf("the file has %q", out)
	}
	wrong := ask("a")
	wrong.Handle, wrong.AgentCredential = c.GetHandle(), "another-credential-0123456789"
	want(t, r.connect(wrong).err, rterr.Unauthenticated)
	r.say(again.connected, req, "true") // A failed attach has left it as it was.
	r.close(c, closeDelete)
	want(t, r.connect(req).err, rterr.SandboxGone)
	if n := r.emu.Stats().Created; n != 1 {
		t.Errorf("%d devboxes were made", n)
	}
}

func TestNeverReady(t *testing.T) {
	r := newRig(t, emulator.Config{}, map[string]any{"tunnel_url": "http://127.0.0.1:1/{port}-{key}"})
	r.s.waits.ready = 300 * 1e6
	e := r.failed(ask("a"), stepReady)
	if e.Reason != rterr.Timeout || !strings.HasPrefix(e.Evidence["devbox"], "dbx_") || e.Evidence["last"] == "" {
		t.Errorf("%+v", e)
	}
}

func TestTunnelFailure(t *testing.T) {
	r := newRig(t, emulator.Config{Faults: emulator.Faults{{Kind: emulator.FaultError, Path: "enable_tunnel"}}}, nil)
	e := r.failed(ask("a"), stepTunnel)
	if e.Evidence["runloop_reason"] == "" || !strings.HasPrefix(e.Evidence["devbox"], "dbx_") || e.Evidence["attempts"] != "6" {
		t.Errorf("%+v", e)
	}
}

func TestFailedBoot(t *testing.T) {
	r := newRig(t, emulator.Config{Faults: emulator.Faults{{Kind: emulator.FaultFailedBoot, Count: 1}}}, nil)
	e := r.failed(ask("a"), stepBoot)
	if e.Reason != rterr.Provider || !strings.Contains(e.Evidence["runloop_reason"], "health_check_failed") || e.Evidence["devbox"] == "" {
		t.Errorf("%+v", e)
	}
}

// vscode stands in for VSCode's server: it answers whoever has the token.
const vscode = `exec python3 -c '
import http.server, os, urllib.parse
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        q = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        ok = q.get("tkn") == [os.environ["TOKEN"]]
        self.send_response(200 if ok else 403); self.end_headers()
        self.wfile.write((os.environ["FOLDER"] + " " + q.get("folder", ["none"])[0]).encode())
    def log_message(self, *a): pass
http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), H).serve_forever()'`

func TestVSCodeURL(t *testing.T) {
	r := newRig(t, emulator.Config{}, map[string]any{"vscode": map[string]any{"port": 14445, "command": vscode}, "tunnel_auth": "open"})
	req := ask("a")
	req.Spec.HeadlessMode, req.Spec.Features = false, []string{"vscode"}
	c := r.must(req)
	answer, err := r.VSCodeURL(t.Context(), &backendv1.VSCodeURLRequest{
		Handle: c.GetHandle(), Folder: "/workspace", AgentCredential: req.GetAgentCredential(),
	})
	if err != nil {
		t.Fatal(rtgrpc.FromStatus(err))
	}
	if code, body := fetch(t, answer.GetUrl()); code != http.StatusOK || body != "/workspace /workspace" {
		t.Errorf("%d %q", code, body)
	}
	u, err := url.Parse(answer.GetUrl())
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "tkn=wrong"
	if code, _ := fetch(t, u.String()); code != http.StatusForbidden {
		t.Errorf("with a wrong token: %d", code)
	}
	r.close(c, closeDelete)
}

// fetch asks until the server listens: nothing tells when it does.
func fetch(t *testing.T, address string) (int, string) {
	t.Helper()
	for tries := 0; ; tries++ {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode < http.StatusInternalServerError || tries == 200 {
			return resp.StatusCode, string(body)
		}
		_ = sleep(t.Context(), 50e6, 50e6)
	}
}

func TestCloseAndKeep(t *testing.T) {
	r := newRig(t, emulator.Config{}, nil)
	first := ask("a")
	c := r.must(first)
	r.say(c, first, "echo kept >file")
	r.close(c, closeKeep)
	if n := r.emu.Stats().Alive; n != 1 {
		t.Fatalf("%d devboxes are alive", n)
	}
	stranger := ask("b")
	stranger.Sid, stranger.Principal = first.GetSid(), "somebody else"
	other := r.must(stranger)
	if other.GetHandle().GetSandboxId() == c.GetHandle().GetSandboxId() {
		t.Fatal("another principal got the kept devbox")
	}
	next := ask("c")
	next.Sid = first.GetSid()
	taken := r.connect(next)
	if taken.err != nil || taken.connected.GetHandle().GetSandboxId() != c.GetHandle().GetSandboxId() || !taken.connected.GetAttached() {
		t.Fatalf("the next runtime of the sid: %+v", taken)
	}
	if out := r.say(taken.connected, next, "cat file"); out != "kept" {
		t.Errorf("the file has %q", out)
	}
	third := ask("d")
	third.Sid = first.GetSid()
	if got := r.must(third); got.GetHandle().GetSandboxId() == c.GetHandle().GetSandboxId() {
		t.Error("a devbox in use was taken")
	}
	list, err := r.List(t.Context(), &backendv1.ListRequest{})
	if err != nil || len(list.GetSandboxes()) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, l := range list.GetSandboxes() {
		if _, err := r.Close(t.Context(), &backendv1.CloseRequest{Handle: l.GetHandle(), Mode: closeDelete}); err != nil {
			t.Error(rtgrpc.FromStatus(err))
		}
	}
	if n := r.emu.Stats().Alive; n != 0 {
		t.Errorf("%d devboxes are left", n)
	}
}

func TestKeyRotatedInMidSession(t *testing.T) {
	r := newRig(t, emulator.Config{}, nil)
	req := ask("a")
	c := r.must(req)
	r.start(c, req, "long", "echo ready; while [ ! -e gate ]; do sleep 0.05; done; echo end")
	r.emu.SetKey("ak_the_next")
	renew := &backendv1.RenewRequest{Handle: c.GetHandle(), AgentCredential: req.GetAgentCredential(), Lease: req.GetLease()}
	_, err := r.Renew(t.Context(), renew)
	if e := want(t, rtgrpc.FromStatus(err), rterr.Unauthenticated); !strings.Contains(e.Remedy, "RUNLOOP_API_KEY") {
		t.Errorf("%+v", e)
	}
	r.say(c, req, "touch gate") // Actions need no key of the API.
	next := r.request(nil)
	next.Credentials = map[string]string{config.APIKey: "ak_the_next"}
	if _, err := r.Configure(t.Context(), next); err != nil {
		t.Fatal(rtgrpc.FromStatus(err))
	}
	if _, err := r.Renew(t.Context(), renew); err != nil {
		t.Error(rtgrpc.FromStatus(err))
	}
	out, last, err := r.execute(c.GetHandle(), req.GetAgentCredential(), "long", "sh", "-c", "echo ready; while [ ! -e gate ]; do sleep 0.05; done; echo end")
	if err != nil || out != "ready\nend\n" || last.GetExitCode() != 0 {
		t.Errorf("the action of before: %q, %v, %v", out, last, err)
	}
	r.close(c, closeDelete)
}

// phases follows a devbox's phase until one comes, and returns its message.
func (r *rig) phase(stream backendv1.BackendService_WatchStatusClient, wanted backendv1.Phase, text string) string {
	r.t.Helper()
	for {
		got, err := stream.Recv()
		if err != nil {
			r.t.Fatalf("waiting for %s %q: %v", wanted, text, rtgrpc.FromStatus(err))
		}
		if got.GetPhase() == wanted && strings.Contains(got.GetMessage(), text) {
			return got.GetMessage()
		}
	}
}

func TestEvictedInMidAction(t *testing.T) {
	r := newRig(t, emulator.Config{}, nil)
	req := ask("a")
	c := r.must(req)
	watch, err := r.WatchStatus(t.Context(), &backendv1.WatchStatusRequest{Handle: c.GetHandle()})
	if err != nil {
		t.Fatal(err)
	}
	r.phase(watch, backendv1.Phase_PHASE_RUNNING, "")
	const script = "echo x >>count; echo ready; exec sleep 1000"
	r.start(c, req, "cut", script)
	evict(t, r.emu, c.GetHandle().GetSandboxId(), "1s")
	r.phase(watch, backendv1.Phase_PHASE_RUNNING, "evicts")
	r.phase(watch, backendv1.Phase_PHASE_PAUSED, "")
	_, _, err = r.execute(c.GetHandle(), req.GetAgentCredential(), "cut", "sh", "-c", script)
	want(t, err, rterr.SandboxPaused)
	req.Handle = c.GetHandle()
	c = r.must(req)
	r.phase(watch, backendv1.Phase_PHASE_RUNNING, "")
	_, last, err := r.execute(c.GetHandle(), req.GetAgentCredential(), "cut", "sh", "-c", script)
	if err != nil || last.GetOutcome() != agentv1.Outcome_OUTCOME_LOST {
		t.Errorf("the action that was cut: %v, %v", last, err)
	}
	if out := r.say(c, req, "cat count"); out != "x" {
		t.Errorf("it ran again: %q", out)
	}
	r.close(c, closeDelete)
	r.phase(watch, backendv1.Phase_PHASE_GONE, "api_shutdown")
	if _, err := watch.Recv(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

// evict announces an eviction of a devbox.
func evict(t *testing.T, emu *emulator.Server, id, delay string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, emu.URL()+"/_emulator/evict/"+id+"?delay="+delay,
		strings.NewReader(`{"delay":"`+delay+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("evict: %s", resp.Status)
	}
}

func TestSuspendedAndResumed(t *testing.T) {
	r := newRig(t, emulator.Config{}, map[string]any{"entrypoint": "echo started >>$HOME/entrypoints; exec sleep 100000"})
	req := ask("a")
	c := r.must(req)
	const script = "echo x >>count; echo ready; exec sleep 1000"
	r.start(c, req, "cut", script)
	credential := req.GetAgentCredential()
	for range 2 { // Both are idempotent.
		if _, err := r.Pause(t.Context(), &backendv1.PauseRequest{Handle: c.GetHandle(), AgentCredential: credential}); err != nil {
			t.Fatal(rtgrpc.FromStatus(err))
		}
	}
	if _, err := r.Renew(t.Context(), &backendv1.RenewRequest{Handle: c.GetHandle(), AgentCredential: credential, Lease: req.GetLease()}); err != nil {
		t.Errorf("renew while it is suspended: %v", rtgrpc.FromStatus(err))
	}
	_, _, err := r.execute(c.GetHandle(), credential, "new", "true")
	want(t, err, rterr.SandboxPaused)
	for range 2 {
		answer, err := r.Resume(t.Context(), &backendv1.ResumeRequest{Handle: c.GetHandle(), AgentCredential: credential, Lease: req.GetLease()})
		if err != nil {
			t.Fatal(rtgrpc.FromStatus(err))
		}
		if answer.GetHandle().GetSandboxId() != c.GetHandle().GetSandboxId() {
			t.Errorf("the devbox is another one: %v", answer)
		}
		c.Handle = answer.GetHandle()
	}
	_, last, err := r.execute(c.GetHandle(), credential, "cut", "sh", "-c", script)
	if err != nil || last.GetOutcome() != agentv1.Outcome_OUTCOME_LOST {
		t.Errorf("the action that was cut: %v, %v", last, err)
	}
	if out := r.say(c, req, "cat count; wc -l <$HOME/entrypoints"); out != "x\n2" {
		t.Errorf("runs of the action, starts of the entrypoint: %q", out)
	}
	r.close(c, closeDelete)
}

func TestQuota(t *testing.T) {
	r := newRig(t, emulator.Config{Quota: 1}, nil)
	c := r.must(ask("a"))
	e := r.failed(ask("b"), stepDevbox)
	if e.Reason != rterr.QuotaExceeded || e.Retryable || e.Evidence["runloop_reason"] == "" {
		t.Errorf("%+v", e)
	}
	r.close(c, closeDelete)
	r.close(r.must(ask("b")), closeDelete)
}
