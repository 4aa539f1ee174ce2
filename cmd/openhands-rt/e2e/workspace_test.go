package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// gitOrigin makes a bare repository tool.git with a file, a set-up script and a pre-commit script, and returns its folder.
func gitOrigin(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	script := `set -e
git init -q --bare -b main tool.git
git init -q -b main seed && cd seed
mkdir .openhands
echo one > README
printf 'export FROM_SETUP=yes\necho set up\n' > .openhands/setup.sh
printf 'echo checked >> /tmp/checked\n' > .openhands/pre-commit.sh
chmod +x .openhands/*
git add . && git -c user.name=n -c user.email=e@x commit -qm one
git push -q ../tool.git main && cd .. && rm -rf seed`
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root
}

// serveGit serves a folder's repositories to whoever shows the password, and counts those who did.
func serveGit(t *testing.T, root, password string) (url string, let *atomic.Int32) {
	t.Helper()
	execPath, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	let = &atomic.Int32{}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(execPath)), "git-http-backend"), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		let.Add(1)
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, let
}

// filesWith lists the files below a folder that hold a text.
func filesWith(dir, text string) []string {
	var out []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, []byte(text)) {
				out = append(out, path)
			}
		}
		return nil
	})
	return out
}

func TestAWorkspaceIsSetUpAndItsSecretsStaySecret(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "log:\n  level: debug\n")
	d.start()
	const token, value = "ghp_e2eT0kenThatNobodySees", "v4lue-that-nobody-sees"
	url, let := serveGit(t, gitOrigin(t), token)
	id := d.must("runtimes", "start", "--sid", "ws")
	tokenFile := filepath.Join(t.TempDir(), "t")
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	r := d.cli("workspace", "clone", url+"/tool.git", "-r", id)
	if r.code != 1 || !strings.Contains(r.stderr, "does not let us in") || let.Load() != 0 {
		t.Errorf("without a token: %+v", r)
	}
	dir := d.must("workspace", "clone", url+"/tool.git", "--token-file", tokenFile, "-r", id)
	if dir != "/workspace/tool" && !strings.HasSuffix(dir, "/tool") || let.Load() == 0 {
		t.Errorf("cloned into %s", dir)
	}
	if branch := d.must("workspace", "branch", "-C", "tool", "-r", id); !strings.HasPrefix(branch, "openhands-workspace-") {
		t.Errorf("branch %q", branch)
	}
	if out := d.must("exec", "-r", id, "--", "git", "-C", dir, "remote", "get-url", "origin"); out != url+"/tool.git" {
		t.Errorf("origin is %s", out)
	}
	if out := d.must("workspace", "setup", "-C", "tool", "-r", id); out != "set up" {
		t.Errorf("%q", out)
	}
	d.must("workspace", "hooks", "-C", "tool", "-r", id)
	env := d.command(t.Context(), "workspace", "env", "SECRET", "PLAIN=$HOME `id`", "-r", id)
	env.Env = append(env.Env, "SECRET="+value)
	if out, err := env.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out := d.must("run", "-r", id, `echo "$FROM_SETUP ${#SECRET} $PLAIN"`); out != fmt.Sprintf("yes %d $HOME `id`", len(value)) {
		t.Errorf("%q", out)
	}
	d.must("exec", "-r", id, "--", "sh", "-c", "cd "+dir+" && echo two > README && touch new && git add new && "+
		"git -c user.name=n -c user.email=e@x commit -qm x && cat /tmp/checked && git -c user.name=n -c user.email=e@x commit -qam y && echo three > README")
	if out := d.must("workspace", "changes", "-r", id); out != "M tool/README\nA tool/new" {
		t.Errorf("%q", out)
	}
	if out := d.must("workspace", "diff", "README", "-C", "tool", "-r", id); !strings.Contains(out, "-one\n+three") {
		t.Errorf("%q", out)
	}
	events := d.must("events", "-r", id)
	for _, want := range []string{"setting up workspace", "setting up git hooks"} {
		if !strings.Contains(strings.ReplaceAll(strings.ToLower(events), "_", " "), want) {
			t.Errorf("no %q in the events:\n%s", want, events)
		}
	}
	d.noTrace(id, token, value)
}

// noTrace stops the daemon, so that everything is written, and looks for secrets in what it leaves behind: its log, its folder with
// the journal, the sandbox's agent with its records, and what the command line shows. A variable is in ~/.bashrc, and must be.
func (d *daemon) noTrace(id string, secrets ...string) {
	d.t.Helper()
	shown := d.must("actions", "ls", "-r", id, "-o", "json") + d.must("events", "-r", id, "-o", "json") + d.must("runtimes", "show", id, "-o", "json")
	var list struct {
		Actions []struct {
			Record struct {
				ID string `json:"id"`
			} `json:"record"`
		} `json:"actions"`
	}
	if err := json.Unmarshal([]byte(d.must("actions", "ls", "-r", id, "-o", "json")), &list); err != nil || len(list.Actions) == 0 {
		d.t.Fatalf("%v, %v", list, err)
	}
	for _, a := range list.Actions {
		shown += d.must("actions", "show", a.Record.ID, "-o", "json") + d.cli("actions", "attach", a.Record.ID, "-o", "json").stdout
	}
	d.stop()
	// The search is worth something only if it finds what is in the journal.
	if !slices.ContainsFunc(formsOf("chmod +x .openhands/setup.sh")[1:], func(form string) bool { return len(filesWith(d.dir, form)) > 0 }) {
		d.t.Error("the journal cannot be searched")
	}
	for _, secret := range secrets {
		for _, form := range formsOf(secret) {
			if strings.Contains(shown, form) {
				d.t.Errorf("%s is shown", form)
			}
			for _, file := range filesWith(d.dir, form) {
				if !strings.HasSuffix(file, "/.bashrc") {
					d.t.Errorf("%s is in %s", form, file)
				}
			}
		}
	}
	d.start()
}

// formsOf are the ways in which a text may stand in a file: as it is, and within something that is in base64, which has three ways to
// cut it.
func formsOf(text string) []string {
	forms := []string{text}
	for shift := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		forms = append(forms, encoded[4:len(encoded)-4]) // both ends depend on the neighbours
	}
	return forms
}

func TestFormsOfASecretAreFound(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "a", "ab", "abc"} {
		encoded := base64.StdEncoding.EncodeToString([]byte(before + "the-secret-value" + before))
		found := false
		for _, form := range formsOf("the-secret-value") {
			found = found || strings.Contains(encoded, form)
		}
		if !found {
			t.Errorf("not found behind %q", before)
		}
	}
}

func TestEventsPortsAndStoppedRuntimesHaveCallsOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	follow := d.command(ctx, "events", "--follow")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	id := d.must("runtimes", "start", "--sid", "seen")
	d.must("exec", "-r", id, "--id", "mark-1", "--", "true")
	var seen strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(seen.String(), "mark-1 done"); {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v; so far:\n%s", err, seen.String())
		}
	}
	cancel()
	_ = follow.Wait()
	if !strings.Contains(seen.String(), id) {
		t.Errorf("%s", seen.String())
	}

	d.must("exec", "-r", id, "--", "mkfifo", "ready")
	const serve = `import socket, time; s = socket.create_server(("127.0.0.1", 0)); open("ready", "w").write(str(s.getsockname()[1])); time.sleep(1000)`
	d.must("exec", "-r", id, "--detach", "--", "python3", "-c", serve)
	port := d.must("exec", "-r", id, "--", "cat", "ready")
	if ports := d.must("ports", "ls", "-r", id); !strings.Contains(ports, port+" ") || !strings.Contains(ports, "/"+id+"/ports/"+port) {
		t.Errorf("port %s: %s", port, ports)
	}

	d.must("exec", "-r", id, "--id", "once", "--detach", "--", "true")
	r := d.cliWith(strings.NewReader("input"), "exec", "-r", id, "--id", "once", "--", "true")
	if r.code != 125 || !strings.Contains(r.stderr, "openhands-rt actions attach once") {
		t.Errorf("%+v", r)
	}

	d.must("runtimes", "stop", id)
	d.stop()
	d.start()
	if live := d.must("runtimes", "ls", "-o", "json"); strings.Contains(live, id) {
		t.Errorf("a stopped runtime is listed as live: %s", live)
	}
	if all := d.must("runtimes", "ls", "--all", "-o", "json"); !strings.Contains(all, id) {
		t.Errorf("a stopped runtime is not listed: %s", all)
	}
	if shown := d.must("runtimes", "show", "seen"); !strings.Contains(shown, id) {
		t.Errorf("%s", shown)
	}
}

func TestWhatOpenHandsClientAnswersIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	url, _, key := d.endpoint()
	id := d.must("runtimes", "start", "--sid", "tasks")
	act := func(name, kind, payload string) string {
		t.Helper()
		body := fmt.Sprintf(`{"runtimeId":%q,"action":{"id":%q,"kind":%q,"payload":%q}}`, id, name, kind, base64.StdEncoding.EncodeToString([]byte(payload)))
		code, text := ask(t, http.MethodPost, url+"/openhands.runtime.v1.ActionService/RunAction", body, "X-API-Key", key)
		var resp struct {
			Observation struct {
				Payload []byte `json:"payload"`
			} `json:"observation"`
		}
		if err := json.Unmarshal([]byte(text), &resp); code != 200 || err != nil {
			return fmt.Sprintf("%d %s", code, text)
		}
		return string(resp.Observation.Payload)
	}
	plan := `{"command":"plan","task_list":[{"id":"task-1","title":"Write parser","status":"todo","notes":""}]}`
	const stored = "Task list has been updated with 1 items. Stored in session directory: sessions/tasks/TASKS.md"
	wantPlan := `{"message":"` + stored + `","observation":"task_tracking","content":"` + stored + `","extras":{"command":"plan",` +
		`"task_list":[{"id":"task-1","title":"Write parser","status":"todo","notes":""}]}}`
	if got := act("p1", "task_tracking", plan); got != wantPlan {
		t.Errorf("%s", got)
	}
	if got := act("t1", "think", `{"thought":"hm"}`); !strings.Contains(got, `"content":"Your thought has been logged."`) {
		t.Errorf("%s", got)
	}
	d.must("runtimes", "pause", id)
	d.stop()
	d.start()
	url, _, key = d.endpoint()
	if got := act("p1", "task_tracking", plan); got != wantPlan {
		t.Errorf("after a restart: %s", got)
	}
	if got := act("v1", "task_tracking", `{"command":"view"}`); !strings.Contains(got, `# Task List\n\n1. ⏳ Write parser\n\n`) {
		t.Errorf("%s", got)
	}
	if got := act("r1", "run", `{"command":"touch /workspace/ran","confirmation_state":"rejected"}`); !strings.Contains(got, `"user_rejected"`) {
		t.Errorf("%s", got)
	}
	d.must("runtimes", "resume", id)
	if r := d.cli("exec", "-r", id, "--", "test", "-e", "ran"); r.code != 1 {
		t.Errorf("a rejected command has run: %+v", r)
	}
	if got := act("m1", "call_tool_mcp", `{"name":"x"}`); !strings.HasPrefix(got, "400") && !strings.Contains(got, "MCP") {
		t.Errorf("%s", got)
	}
	var tasks []string
	_ = filepath.WalkDir(filepath.Join(d.dir, "data"), func(path string, e fs.DirEntry, _ error) error {
		if e.Name() == "TASKS.md" {
			tasks = append(tasks, path)
		}
		return nil
	})
	if len(tasks) != 1 || !strings.HasSuffix(tasks[0], "/sessions/tasks/TASKS.md") {
		t.Errorf("%q", tasks)
	}
}
