package service

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

func TestConnectTellsItsStory(t *testing.T) {
	b := newBench(t, nil)
	out := &stream[backendv1.ConnectResponse]{ctx: t.Context()}
	if err := b.Connect(request("i1"), out); err != nil {
		t.Fatal(err)
	}
	var story []string
	for _, m := range out.sent {
		switch {
		case m.GetStatus() != nil:
			story = append(story, strings.TrimPrefix(m.GetStatus().GetStatus().String(), "RUNTIME_STATUS_"))
		case m.GetStep() != nil:
			story = append(story, m.GetStep().GetName()+" "+strings.TrimPrefix(m.GetStep().GetState().String(), "STEP_STATE_"))
		}
	}
	want := "STARTING_RUNTIME, workspace STARTED, workspace DONE, namespace STARTED, namespace DONE, agent STARTED, agent DONE, " +
		"RUNTIME_STARTED, ready STARTED, ready DONE, READY"
	if got := strings.Join(story, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c := out.sent[len(out.sent)-1].GetConnected()
	defer b.remove(t, c.GetHandle())
	if c.GetAttached() || c.GetHandle().GetBackend() != "here" || c.GetUsername() == "" {
		t.Errorf("%v", c)
	}
	if got := b.sh(t, b.Service, c.GetHandle(), "pwd; echo $HOME"); got != c.GetWorkspace()+"\n"+c.GetHome()+"\n" {
		t.Errorf("the sandbox is at %q", got)
	}
}

func TestFoldersAreTheSandboxsOwn(t *testing.T) {
	for _, mode := range []string{"auto", "off"} {
		t.Run(mode, func(t *testing.T) {
			b := newBench(t, map[string]any{"mount_namespace": mode, "env": map[string]string{"A": "config", "B": "config"}})
			req := request("i1")
			req.Spec = &backendv1.SandboxSpec{Env: map[string]string{"B": "client"}}
			c, d := b.up(t, req), b.up(t, request("i2"))
			b.sh(t, b.Service, c.GetHandle(), "echo mine > f; echo secret > $HOME/g")
			if got := b.sh(t, b.Service, d.GetHandle(), "cat f $HOME/g 2>/dev/null; ls $HOME"); got != "" {
				t.Errorf("another sandbox sees %q", got)
			}
			if got := b.sh(t, b.Service, c.GetHandle(), "cat f $HOME/g; echo $A $B"); got != "mine\nsecret\nconfig client\n" {
				t.Errorf("it sees %q", got)
			}
			mounted := mode == "auto" && c.GetCapabilities().GetWorkspaceMount()
			if mounted != (c.GetWorkspace() == sandbox.WorkspacePath) {
				t.Errorf("workspace %s, mounted %v", c.GetWorkspace(), mounted)
			}
			if mode == "off" && c.GetCapabilities().GetWorkspaceMount() {
				t.Error("claims a mount without one")
			}
		})
	}
}

func TestGivenWorkspaceStays(t *testing.T) {
	b, given := newBench(t, nil), t.TempDir()
	if err := os.WriteFile(filepath.Join(given, "f"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	req := request("i1")
	req.Spec = &backendv1.SandboxSpec{Workspace: given}
	c, err := b.connect(t, b.Service, req)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.sh(t, b.Service, c.GetHandle(), "cat f; echo new > g"); got != "kept" {
		t.Errorf("it sees %q", got)
	}
	b.remove(t, c.GetHandle())
	for _, name := range []string{"f", "g"} {
		if _, err := os.Stat(filepath.Join(given, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestConnectIsIdempotent(t *testing.T) {
	b := newBench(t, nil)
	var wg sync.WaitGroup
	all := make([]*backendv1.Connected, 4)
	for i := range all {
		wg.Go(func() {
			out := &stream[backendv1.ConnectResponse]{ctx: t.Context()}
			if err := b.Connect(request("i1"), out); err != nil {
				t.Error(err)
				return
			}
			all[i] = out.sent[len(out.sent)-1].GetConnected()
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	defer b.remove(t, all[0].GetHandle())
	fresh := 0
	for _, c := range all {
		if !proto.Equal(c.GetHandle(), all[0].GetHandle()) {
			t.Errorf("another sandbox: %v", c.GetHandle())
		}
		if !c.GetAttached() {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d were made", fresh)
	}
}

func TestTheUserHasTheNameThatIsAskedFor(t *testing.T) {
	b := newBench(t, nil)
	req := request("named")
	req.Spec = &backendv1.SandboxSpec{Username: "openhands-test"}
	c, err := b.connect(t, b.Service, req)
	if rterr.Is(err, rterr.Unsupported) && rterr.From(err).Field == "spec.username" {
		t.Skip("no root of its own: " + err.Error())
	}
	if err != nil || c.GetUsername() != "openhands-test" {
		t.Fatalf("%q, %v", c.GetUsername(), err)
	}
	defer b.remove(t, c.GetHandle())
	if got := b.sh(t, b.Service, c.GetHandle(), "id -un; echo $USER; touch f; stat -c %U f"); got != strings.Repeat("openhands-test\n", 3) {
		t.Errorf("inside it is %q", got)
	}
	req.Handle = c.GetHandle()
	if c, err = b.connect(t, b.Service, req); err != nil || c.GetUsername() != "openhands-test" {
		t.Errorf("when it is found again: %q, %v", c.GetUsername(), err)
	}
}

func TestConnectRefusals(t *testing.T) {
	b := newBench(t, map[string]any{"workspace_root": t.TempDir()})
	for name, c := range map[string]struct {
		change func(*backendv1.ConnectRequest)
		want   rterr.Reason
		field  string
	}{
		"intent":     {func(r *backendv1.ConnectRequest) { r.IntentId = "" }, rterr.InvalidArgument, "intent_id"},
		"credential": {func(r *backendv1.ConnectRequest) { r.AgentCredential = "" }, rterr.InvalidArgument, "agent_credential"},
		"lease":      {func(r *backendv1.ConnectRequest) { r.Lease = durationpb.New(-1) }, rterr.InvalidArgument, "lease"},
		"image":      {func(r *backendv1.ConnectRequest) { r.Spec.Image = "debian" }, rterr.Unsupported, "spec.image"},
		"user":       {func(r *backendv1.ConnectRequest) { r.Spec.Username = "no user" }, rterr.Unsupported, "spec.username"},
		"options":    {func(r *backendv1.ConnectRequest) { r.Spec.Options = []byte(`{"a":1}`) }, rterr.InvalidArgument, "spec.options"},
		"env":        {func(r *backendv1.ConnectRequest) { r.Spec.Env = map[string]string{"A=": ""} }, rterr.InvalidArgument, "spec.env"},
		"disk":       {func(r *backendv1.ConnectRequest) { r.Spec.Limits = &backendv1.Limits{DiskBytes: 1} }, rterr.Unsupported, "spec.limits.disk_bytes"},
		"relative":   {func(r *backendv1.ConnectRequest) { r.Spec.Workspace = "tmp" }, rterr.InvalidArgument, "spec.workspace"},
		"no folder":  {func(r *backendv1.ConnectRequest) { r.Spec.Workspace = "/no/such" }, rterr.InvalidArgument, "spec.workspace"},
		"outside":    {func(r *backendv1.ConnectRequest) { r.Spec.Workspace = "/tmp" }, rterr.PermissionDenied, "spec.workspace"},
		"handle":     {func(r *backendv1.ConnectRequest) { r.Handle = &backendv1.Handle{Schema: 9} }, rterr.Integrity, ""},
	} {
		t.Run(name, func(t *testing.T) {
			req := request("i1")
			req.Spec = &backendv1.SandboxSpec{}
			c.change(req)
			_, err := b.connect(t, b.Service, req)
			if !rterr.Is(err, c.want) || rterr.From(err).Field != c.field {
				t.Errorf("%v, field %q", err, rterr.From(err).Field)
			}
		})
	}
}

// TestFailedConnectLeavesNothing: the check is the bench's own.
func TestFailedConnectLeavesNothing(t *testing.T) {
	t.Run("agent ends", func(t *testing.T) {
		b := newBench(t, map[string]any{"agent_args": []string{"silent"}})
		_, err := b.connect(t, b.Service, request("i1"))
		e := rterr.From(err)
		if !rterr.Is(err, rterr.Provider) || e.Evidence["step"] != stepReady || !strings.Contains(e.Evidence["log"], "silent on purpose") {
			t.Errorf("%v, evidence %v", err, e.Evidence)
		}
	})
	t.Run("cancelled while the agent starts", func(t *testing.T) {
		b := newBench(t, map[string]any{"agent_args": []string{"hung"}})
		ctx, cancel := context.WithCancel(t.Context())
		out := &stream[backendv1.ConnectResponse]{ctx: ctx}
		out.on = func(m *backendv1.ConnectResponse) error {
			if m.GetStep().GetName() == stepReady {
				cancel()
			}
			return nil
		}
		if err := b.Connect(request("i1"), out); !rterr.Is(err, rterr.Cancelled) {
			t.Errorf("%v", err)
		}
	})
	for _, last := range []string{stepWorkspace, stepNamespace, stepAgent, stepReady, "connected"} {
		t.Run("caller goes at "+last, func(t *testing.T) {
			b := newBench(t, nil)
			out := &stream[backendv1.ConnectResponse]{ctx: t.Context()}
			out.on = func(m *backendv1.ConnectResponse) error {
				if m.GetStep().GetState() == backendv1.StepState_STEP_STATE_DONE && m.GetStep().GetName() == last || (last == "connected" && m.GetConnected() != nil) {
					return errors.New("the caller is gone")
				}
				return nil
			}
			if err := b.Connect(request("i1"), out); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestAttach(t *testing.T) {
	b := newBench(t, nil)
	c := b.up(t, request("i1"))
	pid := b.sh(t, b.Service, c.GetHandle(), "setsid sleep 600 >/dev/null & echo $!")
	// As after the death of the plugin: another one finds all of it.
	again := b.start(t, nil)
	req := request("i1")
	req.Handle = c.GetHandle()
	d, err := b.connect(t, again, req)
	if err != nil {
		t.Fatal(err)
	}
	if !d.GetAttached() || !proto.Equal(c.GetHandle(), d.GetHandle()) || d.GetWorkspace() != c.GetWorkspace() {
		t.Errorf("%v", d)
	}
	if got := b.sh(t, again, d.GetHandle(), "kill -0 "+strings.TrimSpace(pid)+" && echo lives"); got != "lives\n" {
		t.Errorf("its process: %q", got)
	}
}

func TestAttachRefusals(t *testing.T) {
	b := newBench(t, nil)
	c := b.up(t, request("i1"))
	attach := func(h *backendv1.Handle, cred string) error {
		req := request("i1")
		req.Handle, req.AgentCredential = h, cred
		_, err := b.connect(t, b.Service, req)
		return err
	}
	changed := func(change func(*opaque)) *backendv1.Handle {
		o := opaqueOf(t, c.GetHandle())
		change(&o)
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		h := proto.Clone(c.GetHandle()).(*backendv1.Handle)
		h.Opaque = raw
		return h
	}
	for name, h := range map[string]*backendv1.Handle{
		"nonce":      changed(func(o *opaque) { o.Nonce = "other" }),
		"start time": changed(func(o *opaque) { o.StartTime++ }),
		"boot":       changed(func(o *opaque) { o.BootID = "other" }),
	} {
		if err := attach(h, credential); !rterr.Is(err, rterr.Integrity) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := attach(c.GetHandle(), "not-the-credential-at-all"); !rterr.Is(err, rterr.Unauthenticated) {
		t.Errorf("another credential: %v", err)
	}
	if got := b.sh(t, b.Service, c.GetHandle(), "echo lives"); got != "lives\n" {
		t.Errorf("failed attaches left %q", got)
	}
	unknown := proto.Clone(c.GetHandle()).(*backendv1.Handle)
	unknown.SandboxId = folder.ID(b.owner, "never")
	if err := attach(unknown, credential); !rterr.Is(err, rterr.SandboxGone) {
		t.Errorf("a sandbox that never was: %v", err)
	}
	o := opaqueOf(t, c.GetHandle())
	if err := sandbox.SignalProcess(o.PID, o.StartTime, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, o.PID, o.StartTime)
	if err := attach(c.GetHandle(), credential); !rterr.Is(err, rterr.SandboxGone) {
		t.Errorf("a dead agent: %v", err)
	}
}

// TestForeignAgentIsNotTrusted: another agent that listens at the socket is found out, and is not ended for it.
func TestForeignAgentIsNotTrusted(t *testing.T) {
	b := newBench(t, nil)
	c, d := b.up(t, request("i1")), b.up(t, request("i2"))
	mine, other := opaqueOf(t, c.GetHandle()), opaqueOf(t, d.GetHandle())
	if err := os.Rename(mine.Socket, mine.Socket+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(other.Socket, mine.Socket); err != nil {
		t.Fatal(err)
	}
	req := request("i1")
	req.Handle = c.GetHandle()
	if _, err := b.connect(t, b.Service, req); !rterr.Is(err, rterr.Integrity) {
		t.Errorf("attached to a stranger: %v", err)
	}
	if !sandbox.Alive(other.PID, other.StartTime) || !sandbox.Alive(mine.PID, mine.StartTime) {
		t.Error("somebody was ended for it")
	}
	if err := os.Rename(mine.Socket+".kept", mine.Socket); err != nil {
		t.Fatal(err)
	}
}

func TestPauseResume(t *testing.T) {
	b := newBench(t, nil)
	c := b.up(t, request("i1"))
	counter := filepath.Join(b.state, "counter")
	b.sh(t, b.Service, c.GetHandle(), "while :; do echo x >> "+counter+"; done >/dev/null 2>&1 &")
	for range 2 {
		if _, err := b.Pause(t.Context(), &backendv1.PauseRequest{Handle: c.GetHandle(), AgentCredential: credential}); err != nil {
			t.Fatal(err)
		}
	}
	before := size(t, counter)
	if list := b.list(t, b.Service); len(list) != 1 || list[0].GetPhase() != backendv1.Phase_PHASE_PAUSED {
		t.Errorf("%v", list)
	}
	if after := size(t, counter); after != before {
		t.Errorf("it wrote while paused: %d, then %d", before, after)
	}
	if _, err := b.Renew(t.Context(), &backendv1.RenewRequest{Handle: c.GetHandle(), AgentCredential: credential, Lease: durationpb.New(time.Hour)}); err != nil {
		t.Errorf("renew while paused: %v", err)
	}
	for range 2 {
		r, err := b.Resume(t.Context(), &backendv1.ResumeRequest{Handle: c.GetHandle(), AgentCredential: credential})
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(r.GetHandle(), c.GetHandle()) {
			t.Errorf("another handle: %v", r.GetHandle())
		}
	}
	if got := b.sh(t, b.Service, c.GetHandle(), "echo on"); got != "on\n" {
		t.Errorf("resumed: %q", got)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func (b *bench) list(t testing.TB, s *Service) []*backendv1.ListedSandbox {
	t.Helper()
	answer, err := s.List(context.Background(), &backendv1.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetSandboxes()
}

func TestListPages(t *testing.T) {
	b := newBench(t, nil)
	for i := range 3 {
		b.up(t, request(fmt.Sprintf("i%d", i)))
	}
	seen := map[string]bool{}
	token := ""
	for {
		answer, err := b.List(t.Context(), &backendv1.ListRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range answer.GetSandboxes() {
			seen[one.GetIntentId()] = true
			if one.GetGeneration() != 3 || one.GetOwner() != b.owner || one.GetLeaseUntil().AsTime().Before(time.Now()) {
				t.Errorf("%v", one)
			}
		}
		if token = answer.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
	one, err := b.List(t.Context(), &backendv1.ListRequest{IntentId: "i1"})
	if err != nil || len(one.GetSandboxes()) != 1 {
		t.Errorf("by intent: %v, %v", one, err)
	}
	none, err := b.List(t.Context(), &backendv1.ListRequest{Owner: "another"})
	if err != nil || len(none.GetSandboxes()) != 0 {
		t.Errorf("another's: %v, %v", none, err)
	}
	if _, err := b.List(t.Context(), &backendv1.ListRequest{PageToken: "../x"}); !rterr.Is(err, rterr.InvalidArgument) {
		t.Errorf("a bad token: %v", err)
	}
}

func TestWatchStatus(t *testing.T) {
	b := newBench(t, nil)
	c := b.up(t, request("i1"))
	var phases []string
	out := &stream[backendv1.WatchStatusResponse]{ctx: t.Context()}
	out.on = func(m *backendv1.WatchStatusResponse) error {
		phases = append(phases, strings.TrimPrefix(m.GetPhase().String(), "PHASE_"))
		first := len(phases) == 1
		go func() { // The next change, once this one was told.
			h := c.GetHandle()
			switch {
			case m.GetPhase() == backendv1.Phase_PHASE_RUNNING && first:
				_, _ = b.Pause(context.Background(), &backendv1.PauseRequest{Handle: h, AgentCredential: credential})
			case m.GetPhase() == backendv1.Phase_PHASE_PAUSED:
				_, _ = b.Resume(context.Background(), &backendv1.ResumeRequest{Handle: h, AgentCredential: credential})
			case m.GetPhase() == backendv1.Phase_PHASE_RUNNING:
				o, _ := decodeHandle(h)
				_ = sandbox.SignalProcess(o.PID, o.StartTime, syscall.SIGKILL)
			}
		}()
		return nil
	}
	if err := b.WatchStatus(&backendv1.WatchStatusRequest{Handle: c.GetHandle()}, out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(phases, " "); got != "RUNNING PAUSED RUNNING GONE" {
		t.Errorf("%s", got)
	}
	b.noLeaks(t) // Gone means that nothing is left.
	out = &stream[backendv1.WatchStatusResponse]{ctx: t.Context()}
	if err := b.WatchStatus(&backendv1.WatchStatusRequest{Handle: c.GetHandle()}, out); err != nil || len(out.sent) != 1 || out.sent[0].GetPhase() != backendv1.Phase_PHASE_GONE {
		t.Errorf("%v, %v", out.sent, err)
	}
}

func TestDeadAgentTakesItsTreeAlong(t *testing.T) {
	b := newBench(t, nil)
	c := b.up(t, request("i1"))
	pid, err := strconv.Atoi(strings.TrimSpace(b.sh(t, b.Service, c.GetHandle(), "setsid sleep 600 >/dev/null 2>&1 & echo $!")))
	if err != nil {
		t.Fatal(err)
	}
	start, err := sandbox.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	o := opaqueOf(t, c.GetHandle())
	if err := sandbox.SignalProcess(o.PID, o.StartTime, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, pid, start)
	for _, call := range []func() error{
		func() error {
			_, err := b.Renew(t.Context(), &backendv1.RenewRequest{Handle: c.GetHandle(), AgentCredential: credential, Lease: durationpb.New(time.Minute)})
			return err
		},
		func() error {
			_, err := b.Endpoint(t.Context(), &backendv1.EndpointRequest{Handle: c.GetHandle()})
			return err
		},
		func() error {
			_, err := b.Pause(t.Context(), &backendv1.PauseRequest{Handle: c.GetHandle(), AgentCredential: credential})
			return err
		},
	} {
		if err := call(); !rterr.Is(err, rterr.SandboxGone) {
			t.Errorf("%v", err)
		}
	}
}

// TestCloseEscalates: an agent that does not answer, and one whose credential is lost, end all the same.
func TestCloseEscalates(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, o opaque) (credential string){
		"stopped": func(t *testing.T, o opaque) string {
			if err := sandbox.SignalProcess(o.PID, o.StartTime, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			return "" // With one, it would first be asked, and waited for.
		},
		"credential lost": func(*testing.T, opaque) string { return "some-other-credential" },
		"socket lost": func(t *testing.T, o opaque) string {
			if err := os.Remove(o.Socket); err != nil {
				t.Fatal(err)
			}
			return credential
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			c, err := b.connect(t, b.Service, request("i1"))
			if err != nil {
				t.Fatal(err)
			}
			b.sh(t, b.Service, c.GetHandle(), "setsid sleep 600 >/dev/null 2>&1 & sleep 600 >/dev/null 2>&1 &")
			cred := prepare(t, opaqueOf(t, c.GetHandle()))
			for range 2 {
				_, err = b.Close(t.Context(), &backendv1.CloseRequest{Handle: c.GetHandle(), Mode: backendv1.CloseMode_CLOSE_MODE_DELETE, AgentCredential: cred})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestCloseKeeps(t *testing.T) {
	b := newBench(t, nil)
	c := b.up(t, request("i1"))
	for _, mode := range []backendv1.CloseMode{backendv1.CloseMode_CLOSE_MODE_KEEP, backendv1.CloseMode_CLOSE_MODE_UNSPECIFIED} {
		_, err := b.Close(t.Context(), &backendv1.CloseRequest{Handle: c.GetHandle(), Mode: mode, AgentCredential: credential})
		if keep := mode == backendv1.CloseMode_CLOSE_MODE_KEEP; keep != (err == nil) {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if got := b.sh(t, b.Service, c.GetHandle(), "echo lives"); got != "lives\n" {
		t.Errorf("%q", got)
	}
}

func TestEndpointUsageLogsDiagnose(t *testing.T) {
	b := newBench(t, nil)
	c := b.up(t, request("i1"))
	e, err := b.Endpoint(t.Context(), &backendv1.EndpointRequest{Handle: c.GetHandle(), Port: 8080})
	if err != nil || !strings.HasPrefix(e.GetAddress(), "unix:///") || e.GetPath() != "/ports/8080" {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := b.Endpoint(t.Context(), &backendv1.EndpointRequest{Handle: c.GetHandle(), Port: 70000}); !rterr.Is(err, rterr.InvalidArgument) {
		t.Errorf("port 70000: %v", err)
	}
	b.sh(t, b.Service, c.GetHandle(), "sleep 600 >/dev/null 2>&1 &")
	if c.GetCapabilities().GetUsage() {
		u, err := b.Usage(t.Context(), &backendv1.UsageRequest{Handle: c.GetHandle()})
		if err != nil || u.GetPids() < 1 || u.GetMemoryBytes() == 0 {
			t.Errorf("%v, %v", u, err)
		}
	}
	if err := b.Logs(&backendv1.LogsRequest{Handle: c.GetHandle()}, &stream[backendv1.LogsResponse]{ctx: t.Context()}); err != nil {
		t.Error(err)
	}
	if d, err := b.Diagnose(t.Context(), nil); err != nil || len(d.GetChecks()) < 2 {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := b.VSCodeURL(t.Context(), &backendv1.VSCodeURLRequest{}); !rterr.Is(err, rterr.Unsupported) {
		t.Errorf("vscode: %v", err)
	}
}

func TestLimitsAreEnforced(t *testing.T) {
	b := newBench(t, nil)
	if !b.machine().placement.Can(sandbox.LimitPids) {
		t.Skip("processes cannot be limited here")
	}
	req := request("i1")
	req.Spec = &backendv1.SandboxSpec{Limits: &backendv1.Limits{Pids: 10, MemoryBytes: 256 << 20, CpuMillis: 1500}}
	c := b.up(t, req)
	got := b.sh(t, b.Service, c.GetHandle(), "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 >/dev/null 2>&1 & done; echo all")
	if strings.Contains(got, "all") {
		t.Error("twelve processes under a limit of ten")
	}
}

func TestConfigure(t *testing.T) {
	s := newService("test", nil)
	defer s.stop()
	b := &bench{Service: s, state: t.TempDir(), owner: "o"}
	if _, err := s.List(t.Context(), &backendv1.ListRequest{}); !rterr.Is(err, rterr.IllegalState) {
		t.Errorf("before Configure: %v", err)
	}
	d, err := s.Describe(t.Context(), nil)
	if err != nil || d.GetName() != "local" || d.GetCapabilities().GetLimitMemory() {
		t.Errorf("%v, %v", d, err)
	}
	bad := b.configuration(t, map[string]any{"level": "namespaced"})
	if _, err := s.Configure(t.Context(), bad); !rterr.Is(err, rterr.ConfigInvalid) || rterr.From(err).Field != "level" {
		t.Errorf("namespaced: %v", err)
	}
	if _, err := s.Configure(t.Context(), b.configuration(t, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Configure(t.Context(), bad); err == nil {
		t.Error("a bad config took effect")
	}
	if _, err := s.List(t.Context(), &backendv1.ListRequest{}); err != nil {
		t.Errorf("a refused Configure took the old one away: %v", err)
	}
	for _, owner := range []string{"", "a/b", "..", "a\n"} {
		req := b.configuration(t, nil)
		req.Owner = owner
		if _, err := s.Configure(t.Context(), req); !rterr.Is(err, rterr.InvalidArgument) {
			t.Errorf("owner %q: %v", owner, err)
		}
	}
}

func TestFiftyAtOnce(t *testing.T) {
	b := newBench(t, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var handles []*backendv1.Handle
	for i := range 50 {
		wg.Go(func() {
			out := &stream[backendv1.ConnectResponse]{ctx: t.Context()}
			if err := b.Connect(request(fmt.Sprintf("i%d", i)), out); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			handles = append(handles, out.sent[len(out.sent)-1].GetConnected().GetHandle())
		})
	}
	wg.Wait()
	if n := len(b.list(t, b.Service)); n != len(handles) || n != 50 {
		t.Errorf("%d are listed, %d were made", n, len(handles))
	}
	for _, h := range handles {
		wg.Go(func() { b.remove(t, h) })
	}
	wg.Wait()
}

// runPlugin is a plugin process: state folder, owner, agent's arguments; it makes a sandbox, says so, and waits to be killed.
func runPlugin() error {
	raw, err := json.Marshal(map[string]any{"agent_binary": self()})
	if err != nil {
		return err
	}
	s := newService("test", nil)
	_, err = s.Configure(context.Background(), &backendv1.ConfigureRequest{Config: raw, StateDir: os.Args[2], Owner: os.Args[3], Backend: "here"})
	if err != nil {
		return err
	}
	lease, err := time.ParseDuration(os.Args[4])
	if err != nil {
		return err
	}
	req := request("i1")
	req.Lease = durationpb.New(lease)
	out := &stream[backendv1.ConnectResponse]{ctx: context.Background()}
	if err := s.Connect(req, out); err != nil {
		return err
	}
	line, err := json.Marshal(out.sent[len(out.sent)-1].GetConnected().GetHandle())
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	select {}
}

// killedPlugin returns the handle of a sandbox whose plugin was killed with -9.
func (b *bench) killedPlugin(t *testing.T, lease string) *backendv1.Handle {
	t.Helper()
	cmd := exec.Command(self(), "plugin", b.state, b.owner, lease)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = t.Output()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	// The whole group, as a supervisor does it: the agent is in none of the plugin's.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	h := &backendv1.Handle{}
	if err := json.Unmarshal([]byte(line), h); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return h
}

func TestSandboxOutlivesPlugin(t *testing.T) {
	b := newBench(t, nil)
	h := b.killedPlugin(t, "5m")
	defer b.remove(t, h)
	s := b.start(t, nil)
	if list := b.list(t, s); len(list) != 1 || !proto.Equal(list[0].GetHandle(), h) {
		t.Errorf("%v", list)
	}
	req := request("i1")
	req.Handle = h
	if c, err := b.connect(t, s, req); err != nil || !c.GetAttached() {
		t.Errorf("%v, %v", c, err)
	}
	if got := b.sh(t, s, h, "echo lives"); got != "lives\n" {
		t.Errorf("%q", got)
	}
}

// TestLeaseEndsAll: with the plugin gone for good, agent and tree end with the lease, whatever they detached.
func TestLeaseEndsAll(t *testing.T) {
	b := newBench(t, nil)
	h := b.killedPlugin(t, "3s")
	o := opaqueOf(t, h)
	pids := strings.Fields(b.sh(t, b.Service, h, "setsid sleep 600 >/dev/null 2>&1 & echo $!; sleep 600 >/dev/null 2>&1 & echo $!"))
	b.Service.stop() // This one watches no longer either.
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if start, err := sandbox.StartTime(pid); err == nil {
			ended(t, pid, start)
		}
	}
	ended(t, o.PID, o.StartTime)
	if list := b.list(t, b.start(t, nil)); len(list) != 0 { // What it left on the disk goes with the next plugin.
		t.Errorf("%v", list)
	}
}

func BenchmarkCreateToReady(b *testing.B) {
	bb := newBench(b, nil)
	i := 0
	for b.Loop() {
		i++
		c, err := bb.connect(b, bb.Service, request(fmt.Sprintf("i%d", i)))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		bb.remove(b, c.GetHandle())
		b.StartTimer()
	}
}

func FuzzDecodeHandle(f *testing.F) {
	f.Add([]byte(`{"socket":"/s","nonce":"n","pid":1,"start_time":2,"boot_id":"b"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := &backendv1.Handle{Schema: handleSchema, SandboxId: folder.ID("o", "i"), Opaque: raw}
		if o, err := decodeHandle(h); (err == nil) == (o.Nonce == "") {
			t.Errorf("%+v, %v", o, err)
		}
	})
}
