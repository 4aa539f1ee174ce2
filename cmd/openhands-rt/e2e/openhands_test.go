package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of this file are named after the points of the compatibility checklist for the runtime API (18 to 25), and for those
// of 1 to 17 that show at the door.

func TestPoint18SessionsAreUnknownAndThenHaveAStatus(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	if code, body := o.call(http.MethodGet, "/sessions/s1", nil); code != http.StatusNotFound || text(body, "detail") == "" {
		t.Errorf("unknown: %d %v", code, body)
	}
	s := o.begin("s1")
	expect := func(status, pod string) {
		t.Helper()
		code, body := o.call(http.MethodGet, "/sessions/s1", nil)
		if code != http.StatusOK || text(body, "status") != status || text(body, "pod_status") != pod || text(body, "runtime_id") != s.id {
			t.Errorf("%d %v, want %s and %s", code, body, status, pod)
		}
	}
	expect("running", "ready")
	o.call(http.MethodPost, "/pause", object{"runtime_id": s.id})
	expect("paused", "not found")
	o.call(http.MethodPost, "/resume", object{"runtime_id": s.id})
	expect("running", "ready")
	o.call(http.MethodPost, "/stop", object{"runtime_id": s.id})
	expect("stopped", "not found")
	code, list := o.raw(http.MethodGet, "/sessions/batch?ids=s1&ids=unknown&ids=s1", nil)
	var batch []object
	if err := json.Unmarshal([]byte(list), &batch); err != nil || code != http.StatusOK || len(batch) != 1 || text(batch[0], "session_id") != "s1" {
		t.Errorf("batch: %d %s", code, list)
	}
	if code, list := o.raw(http.MethodGet, "/sessions/batch", nil); code != http.StatusOK || strings.TrimSpace(list) != "[]" {
		t.Errorf("an empty batch: %d %s", code, list)
	}
}

// noNulls fails for every key that is null.
func noNulls(t *testing.T, o object) {
	t.Helper()
	for key, value := range o {
		if value == nil {
			t.Errorf("%s is null", key)
		}
	}
}

func TestPoint19EveryKeyIsThere(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	_, started := o.call(http.MethodPost, "/start", startBody("s1"))
	id := text(started, "runtime_id")
	for name, path := range map[string]string{"start": "", "runtime": "/runtime/" + id, "session": "/sessions/s1"} {
		got := started
		if path != "" {
			_, got = o.call(http.MethodGet, path, nil)
		}
		noNulls(t, got)
		for _, key := range []string{"runtime_id", "session_id", "url", "session_api_key", "status", "pod_status"} {
			if text(got, key) == "" {
				t.Errorf("%s: no %s in %v", name, key, got)
			}
		}
		if url := text(got, "url"); strings.HasSuffix(url, "/") || !strings.HasSuffix(url, "/"+id) {
			t.Errorf("%s: url %q", name, url)
		}
		hosts, _ := got["work_hosts"].(object)
		if len(hosts) != 2 || hosts[text(got, "url")+"/work-1"] != 12000.0 {
			t.Errorf("%s: work hosts %v", name, hosts)
		}
		if got["restart_count"] != 0.0 || !strings.Contains(text(got, "command"), "action_execution_server") {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestPoint20ReadyMeansThatThePublicURLAnswers(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	code, started := o.call(http.MethodPost, "/start", startBody("s1"))
	if code != http.StatusOK {
		t.Fatal(started)
	}
	for range 200 {
		_, now := o.call(http.MethodGet, "/runtime/"+text(started, "runtime_id"), nil)
		alive, body := ask(t, http.MethodGet, text(started, "url")+"/alive", "")
		ready := text(now, "pod_status") == "ready"
		if ready && alive != http.StatusOK {
			t.Fatalf("ready, and /alive is %d %s", alive, body)
		}
		if alive != http.StatusOK && alive != http.StatusInternalServerError {
			t.Fatalf("%v, and /alive is %d %s", now, alive, body)
		}
		if ready {
			return
		}
	}
	t.Error("never ready")
}

func TestPoint21APausedSandboxAnswers503AndComesBackAsItWas(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	s := o.begin("s1")
	s.run("export KEPT=yes; cd /tmp")
	for range 2 { // idempotent
		if code, body := o.call(http.MethodPost, "/pause", object{"runtime_id": s.id}); code != http.StatusOK || text(body, "status") != "paused" {
			t.Errorf("pause: %d %v", code, body)
		}
	}
	for _, path := range []string{"/alive", "/server_info", "/list_files", "/execute_action"} {
		if code, body := s.post(path, event("run", object{"command": "echo no"})); code != http.StatusServiceUnavailable || !strings.Contains(body, `"detail"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	d.stop()
	d.start()
	o = d.remote()
	for range 2 {
		code, body := o.call(http.MethodPost, "/resume", object{"runtime_id": s.id})
		if code != http.StatusOK || text(body, "session_api_key") != s.key {
			t.Fatalf("resume: %d %v", code, body)
		}
		s.url = text(body, "url") // the listener has another port after the restart of this test's daemon
	}
	o.waitReady(s)
	if got := s.content("echo $KEPT $PWD; alias git"); !strings.HasPrefix(got, "yes /tmp") || !strings.Contains(got, "--no-pager") {
		t.Errorf("the shell after the resume: %q", got)
	}
}

func TestPoint22ClosingTwiceOrNothingIsNoError(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	s := o.begin("s1")
	for _, path := range []string{"/stop", "/pause"} {
		for name, body := range map[string]any{"null": object{"runtime_id": nil}, "nothing": object{}, "empty": object{"runtime_id": ""}} {
			if code, got := o.call(http.MethodPost, path, body); code != http.StatusOK {
				t.Errorf("%s %s: %d %v", path, name, code, got)
			}
		}
	}
	for path, want := range map[string]int{"/stop": 200, "/pause": 404, "/resume": 404} {
		if code, got := o.call(http.MethodPost, path, object{"runtime_id": "r0unknown"}); code != want {
			t.Errorf("%s of an unknown one: %d %v", path, code, got)
		}
	}
	for range 2 {
		if code, got := o.call(http.MethodPost, "/stop", object{"runtime_id": s.id}); code != http.StatusOK || text(got, "status") != "stopped" {
			t.Errorf("stop: %d %v", code, got)
		}
	}
	if code, got := o.call(http.MethodPost, "/pause", object{"runtime_id": s.id}); code != http.StatusOK || text(got, "status") != "stopped" {
		t.Errorf("pause of a stopped one: %d %v", code, got)
	}
	if code, got := o.call(http.MethodPost, "/resume", object{"runtime_id": s.id}); code != http.StatusNotFound {
		t.Errorf("resume of a stopped one: %d %v", code, got)
	}
	for _, path := range []string{"/alive", "/execute_action", "/list_files"} {
		if code, _ := s.post(path, "{}"); code != http.StatusNotFound {
			t.Errorf("%s of a stopped one: %d", path, code)
		}
	}
}

func TestPoint23ASessionCanBeStartedAgain(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	first := o.begin("s1")
	if again := o.begin("s1"); again.id != first.id || again.key != first.key {
		t.Errorf("a second start of a running session made another runtime")
	}
	first.run("touch /workspace/old")
	o.call(http.MethodPost, "/stop", object{"runtime_id": first.id})
	second := o.begin("s1")
	if second.id == first.id || second.key == first.key {
		t.Error("the new runtime has the old one's id or key")
	}
	if got := second.content("ls -A"); got != "" {
		t.Errorf("the workspace of the new one has %q", got)
	}
	if _, got := o.call(http.MethodGet, "/sessions/s1", nil); text(got, "runtime_id") != second.id {
		t.Errorf("the session is %v", got)
	}
	if code, got := o.call(http.MethodPost, "/start", startBody("a/b")); code != http.StatusBadRequest {
		t.Errorf("an impossible sid: %d %v", code, got)
	}
}

func TestPoint24BothGenerationsFormsAreTaken(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	asString := startBody("string")
	asString["command"] = strings.Join(serverCommand(), " ")
	for name, extra := range map[string]any{
		"run_as_user": 10001, "run_as_group": 10001, "fs_group": 10001, "image_pull_policy": "IfNotPresent", "resource_factor": 4, "unheard_of": []int{1},
	} {
		asString[name] = extra
	}
	v1 := object{
		"image": "agent-server", "command": "/usr/local/bin/openhands-agent-server --port 60000", "working_dir": "/", "environment": object{},
		"session_id": "v1", "run_as_user": 10001, "fs_group": 10001, "image_pull_policy": "IfNotPresent", "runtime_class": "sysbox-runc",
	}
	for name, body := range map[string]object{"list": startBody("list"), "string": asString, "v1": v1, "bare": {"session_id": "bare"}} {
		code, got := o.call(http.MethodPost, "/start", body)
		if code != http.StatusOK || text(got, "status") != "running" {
			t.Errorf("%s: %d %v", name, code, got)
		}
		noNulls(t, got)
		if name == "v1" && !strings.Contains(text(got, "pod_logs"), "not run") {
			t.Errorf("nothing says that the command was not run: %v", got)
		}
	}
	o.call(http.MethodPost, "/pause", object{"runtime_id": o.begin("paused").id})
	_, list := o.call(http.MethodGet, "/list", nil)
	runtimes, _ := list["runtimes"].([]any)
	var sids []string
	for _, r := range runtimes {
		r, _ := r.(object)
		noNulls(t, r)
		sids = append(sids, text(r, "session_id"))
	}
	slices.Sort(sids)
	if want := []string{"bare", "list", "string", "v1"}; !slices.Equal(sids, want) || list["total"] != 4.0 {
		t.Errorf("list: %v, total %v, want %v", sids, list["total"], want)
	}
}

func TestPoint25BothKeysMayComeAndNoneGetsIn(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	s := o.begin("s1")
	if code, body := ask(t, http.MethodGet, o.url+"/list", "", "X-API-Key", o.key, "X-Session-API-Key", s.key); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	// What listens in the sandbox writes down what reaches it.
	port := s.content(`python3 -c '
import socket
l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen(); open("port.new", "w").write(str(l.getsockname()[1]))
import os; os.rename("port.new", "port")
c, _ = l.accept(); open("seen", "wb").write(c.recv(65536)); c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); c.close()
' >/dev/null 2>&1 & until test -e port; do sleep 0.02; done; cat port`)
	code, body := ask(t, http.MethodGet, s.url+"/ports/"+port+"/x?y=z", "", "X-API-Key", o.key, "X-Session-API-Key", s.key,
		"Authorization", "Bearer "+o.key, "Cookie", "a="+o.key)
	if code != http.StatusOK || body != "ok" {
		t.Fatalf("%d %s", code, body)
	}
	seen := s.content("cat seen")
	if !strings.Contains(seen, "GET /x?y=z") || strings.Contains(seen, o.key) || strings.Contains(seen, s.key) {
		t.Errorf("the sandbox has seen %q", seen)
	}
	if strings.Contains(s.content("env"), o.key) {
		t.Error("the daemon's key is in the sandbox")
	}
}

func TestPoint1OnlyTwoPathsAreOpen(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	unknown := strings.TrimSuffix(s.url, s.id) + "r0unknown"
	for _, key := range []string{"", "wrong", strings.ToLower(s.key), s.key + " x"} {
		for _, path := range []string{"/execute_action", "/list_files", "/no/such/path", "", "/", "/alive/", "/download_files?path=/etc"} {
			for _, url := range []string{s.url, unknown} {
				code, body := ask(t, http.MethodPost, url+path, "{}", "X-Session-API-Key", key)
				if code != http.StatusForbidden || body != `{"detail":"Invalid API Key"}` {
					t.Errorf("%s with key %q: %d %s", url+path, key, code, body)
				}
			}
		}
	}
	for _, path := range []string{"/alive", "/server_info"} {
		if code, body := ask(t, http.MethodGet, s.url+path, ""); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
		if code, body := ask(t, http.MethodGet, unknown+path, ""); code != http.StatusNotFound {
			t.Errorf("%s of an unknown runtime: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/../files?path=/etc/passwd", "/%2e%2e/files?path=/etc/passwd", "/x/..%2f..%2ffiles", "//files"} {
		if code, body := s.get(path); code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestPoint2ProtocolErrorsAreObjects(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	for body, want := range map[string]int{
		`{"action":{"action":"fly","args":{}}}`: 500, `{"action":{"action":"run","args":{}}}`: 500, `{"action":[]}`: 422, `{}`: 422,
		`no JSON`: 422, `{"action":{"action":"think","args":{"thought":"x"}}}`: 500,
	} {
		code, text := s.post("/execute_action", body)
		var o object
		if err := json.Unmarshal([]byte(text), &o); err != nil || code != want || o["detail"] == nil {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
}

func TestPoint13OneActionAtATimeAndDisconnectsPoisonNothing(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	const n = 10
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			s.run(fmt.Sprintf("echo begin %d >> log; sleep 0.02; echo end %d >> log", i, i))
		})
	}
	all.Wait()
	lines := strings.Split(s.content("cat log"), "\n")
	if len(lines) != 2*n {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for i := 0; i < len(lines); i += 2 {
		if strings.TrimPrefix(lines[i], "begin ") != strings.TrimPrefix(lines[i+1], "end ") {
			t.Errorf("%q and %q are side by side", lines[i], lines[i+1])
		}
	}
}

func TestTheUserIsTheOneThatTheClientNames(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	s := o.begin("s1")
	obs := s.run("touch f; id -un; stat -c %U f; echo $USER $HOME")
	extras, _ := obs["extras"].(object)
	metadata, _ := extras["metadata"].(object)
	if got := text(obs, "content"); got != "openhands\nopenhands\nopenhands /home/openhands" || text(metadata, "username") != "openhands" {
		if strings.Contains(d.logs(), "has another name") {
			t.Skip("sandboxes have no root of their own here")
		}
		t.Errorf("%q, %v", got, metadata)
	}
	other := startBody("s2")
	other["command"] = []string{"python", "-m", "openhands.runtime.action_execution_server", "60000", "--username", "No Such User"}
	if code, got := o.call(http.MethodPost, "/start", other); code != http.StatusOK || text(got, "status") != "running" {
		t.Errorf("a name that no user can have: %d %v", code, got)
	}
}

// agentPID is the process of the only sandbox's agent.
func (d *daemon) agentPID() int {
	d.t.Helper()
	for _, line := range processesOf(d.dir) {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasSuffix(fields[1], "openhands-rt") && fields[2] == "agent" {
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				d.t.Fatal(err)
			}
			return pid
		}
	}
	d.t.Fatal("no agent runs")
	return 0
}

func TestASandboxThatIsGoneIsSaidToBeAndItsSessionStartsAnew(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	s := o.begin("s1")
	result := make(chan object, 1)
	go func() { result <- s.action("run", object{"command": "touch begun; sleep 60"}, 90) }()
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) { // the sandbox has no event for us
		if code, list := s.post("/list_files", "{}"); code == http.StatusOK && strings.Contains(list, "begun") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the command does not begin: %d %s", code, list)
		}
	}
	if err := syscall.Kill(d.agentPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if obs := <-result; obs["observation"] != "error" {
		t.Errorf("what ran in it is answered with %v", obs)
	}
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		_, got := o.call(http.MethodGet, "/sessions/s1", nil)
		if text(got, "status") == "error" && text(got, "pod_status") == "failed" && text(got, "pod_logs") != "" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the session is %v", got)
		}
	}
	for _, path := range []string{"/alive", "/execute_action", "/list_files"} {
		if code, body := s.post(path, event("run", object{"command": "true"})); code != http.StatusNotFound || !strings.Contains(body, `"detail"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if again := o.begin("s1"); again.id == s.id || again.content("ls") != "" {
		t.Error("the new runtime is the old one")
	}
}

func TestTheImageEndpoints(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	o := d.remote()
	if code, got := o.call(http.MethodGet, "/registry_prefix", nil); code != http.StatusOK || text(got, "registry_prefix") == "" {
		t.Errorf("%d %v", code, got)
	}
	code, got := o.call(http.MethodGet, "/image_exists?image=x", nil)
	image, _ := got["image"].(object)
	if _, isNumber := image["image_size_bytes"].(float64); code != http.StatusOK || got["exists"] != true || !isNumber || text(image, "upload_time") == "" {
		t.Errorf("%d %v", code, got)
	}
	body, kind := multipartBody("context", strings.Repeat("QUJD", 1<<20), map[string]string{"target_image": "x", "tags": "y"})
	code, answer := ask(t, http.MethodPost, o.url+"/build", body, "X-API-Key", o.key, "Content-Type", kind)
	var build object
	if err := json.Unmarshal([]byte(answer), &build); err != nil || code != http.StatusOK || text(build, "build_id") == "" {
		t.Fatalf("build: %d %s", code, answer)
	}
	code, got = o.call(http.MethodGet, "/build_status?build_id="+text(build, "build_id"), nil)
	if code != http.StatusOK || text(got, "status") != "FAILURE" || text(got, "error") == "" {
		t.Errorf("%d %v", code, got)
	}
	if code, _ := o.call(http.MethodPost, "/build", object{}); code != http.StatusBadRequest {
		t.Errorf("a build without a context: %d", code)
	}
	for path, want := range map[string]int{"/health": 200, "/list": 401, "/sessions/x": 401} {
		if code, body := ask(t, http.MethodGet, o.url+path, ""); code != want {
			t.Errorf("%s without a key: %d %s", path, code, body)
		}
	}
}
