package v0_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The points are those of openhands-v0 section 11, against an agent in a process of its own.

func TestPoint01KeysAndOpenPaths(t *testing.T) {
	f := newFace(t)
	for _, key := range []string{"", "wrong", sessionKey + "x", strings.ToUpper(sessionKey), " "} {
		for _, open := range []string{"/alive", "/server_info"} {
			if a := f.do("GET", open, "", "X-Session-API-Key", key); a.status != 200 {
				t.Errorf("%s with %q: %d", open, key, a.status)
			}
		}
		for method, paths := range map[string][]string{
			"GET":  {"/", "/nowhere", "/alive/", "/alive/x", "//alive", "/download_files?path=/", "/vscode/connection_token", "/mcp/sse", "/execute_action"},
			"POST": {"/execute_action", "/upload_file", "/list_files", "/update_mcp_server", "/docs", "/server_info/"},
		} {
			for _, path := range paths {
				a := f.do(method, path, command("echo never"), "X-Session-API-Key", key, "X-API-Key", sessionKey)
				if a.status != 403 || string(a.body) != `{"detail":"Invalid API Key"}` {
					t.Errorf("%s %s with %q: %d %s", method, path, key, a.status, a.body)
				}
			}
		}
	}
	if a := f.do("GET", "/alive", ""); a.status != 200 || string(a.body) != `{"status":"ok"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
	for path, want := range map[string]string{"/nowhere": "Not Found", "/mcp/sse": "Not Found", "/": "Not Found"} {
		if a := f.do("GET", path, ""); a.status != 404 || a.detail(t) != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for path, allow := range map[string]string{"/execute_action": "POST", "/list_files": "POST", "/upload_file": "POST"} {
		if a := f.do("GET", path, ""); a.status != 405 || a.detail(t) != "Method Not Allowed" || a.header.Get("Allow") != allow {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestPoint02ToolErrorsAre200AndProtocolErrorsAre500(t *testing.T) {
	f := newFace(t)
	o, _ := f.run("false")
	if o["observation"] != "run" || o["success"] != false {
		t.Errorf("%v", o)
	}
	for body, want := range map[string]string{
		`{"action":{"observation":"run","content":"","extras":{}}}`: "400: Invalid action type",
		event("think", map[string]any{"thought": "x"}, nil):         "'ActionExecutor' object has no attribute 'think'",
		event("run", map[string]any{}, nil):                         "action run has the wrong arguments: missing required argument: 'command'",
	} {
		if a := f.do("POST", "/execute_action", body); a.status != 500 || a.detail(t) != "Internal server error: "+want {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	for _, body := range []string{``, `[]`, `{}`, `{"action":"run"}`, `{"action":`} {
		a := f.do("POST", "/execute_action", body)
		errs, isString := a.object(t)["errors"].(string)
		if a.status != 422 || a.detail(t) != "Invalid request parameters" || !isString || !strings.HasPrefix(errs, "[{'type': '") {
			t.Errorf("%q: %d %s", body, a.status, a.body)
		}
	}
	for _, kind := range []string{"browse", "browse_interactive"} {
		a := f.do("POST", "/execute_action", event(kind, map[string]any{"url": "http://x", "browser_actions": "noop(1)"}, nil))
		want := `{"message":"Browser functionality is not supported or disabled.","observation":"error",` +
			`"content":"Browser functionality is not supported or disabled.","extras":{"error_id":""}}`
		if equalJSON(t, a.body, want); a.status != 200 {
			t.Errorf("%d", a.status)
		}
	}
	a := f.do("POST", "/execute_action", event("run", map[string]any{"command": "pwd", "is_static": true, "hidden": true, "cwd": "/nowhere"}, 5))
	if o := a.object(t); a.status != 200 || o["observation"] != "run" || o["success"] != false {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestPoint04HardTimeoutAndWhatFollows(t *testing.T) {
	f := newFace(t)
	gate := f.fifo("gate")
	body := event("run", map[string]any{"command": "read x < " + gate + "; echo $x; (exit 3)", "blocking": true}, 0.5)
	o := f.do("POST", "/execute_action", body).object(t)
	meta := metadata(t, o)
	if meta["exit_code"] != -1.0 || !strings.HasPrefix(meta["suffix"].(string), "\n[The command timed out after 0.5 seconds. You may wait longer") {
		t.Errorf("%v", meta)
	}
	release(t, gate)
	o = f.do("POST", "/execute_action", event("run", map[string]any{"command": "", "blocking": true}, 60)).object(t)
	meta = metadata(t, o)
	if meta["exit_code"] != 3.0 || meta["suffix"] != "\n[The command completed with exit code 3.]" || !strings.Contains(o["content"].(string), "go") || o["success"] != false {
		t.Errorf("%v", o)
	}
}

// metadata wants all of it.
func metadata(t *testing.T, o map[string]any) map[string]any {
	t.Helper()
	extras, _ := o["extras"].(map[string]any)
	meta, _ := extras["metadata"].(map[string]any)
	var keys []string
	for key := range meta {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if want := []string{"exit_code", "hostname", "pid", "prefix", "py_interpreter_path", "suffix", "username", "working_dir"}; !slices.Equal(keys, want) {
		t.Fatalf("metadata of %v", o)
	}
	return meta
}

func TestPoint11ListFiles(t *testing.T) {
	f := newFace(t)
	for _, name := range []string{"b.txt", "A.txt", ".hidden", "sub/x", "Zeta/x", "-a", "ä"} {
		f.write(name, "x")
	}
	must(t, os.Symlink("sub", f.file("link-to-sub")))
	must(t, os.Symlink("b.txt", f.file("link-to-b")))
	must(t, os.Symlink("nowhere", f.file("dangling")))
	all := `["link-to-sub/","sub/","Zeta/","-a",".hidden","A.txt","b.txt","link-to-b","ä"]`
	for body, want := range map[string]string{
		`{}`: all, `{"path":null}`: all, `{"path":"."}`: all, `{"path":` + quoted(f.workspace) + `}`: all, `{"path":"sub"}`: `["x"]`,
		`{"path":"/nowhere"}`: `[]`, `{"path":"b.txt"}`: `[]`, `{"path":"dangling"}`: `[]`, `{"path":5}`: `[]`, `{"path":"a\u0000b"}`: `[]`,
		`{"path":"` + strings.Repeat("x/", 3000) + `"}`: `[]`,
	} {
		a := f.do("POST", "/list_files", body)
		if equalJSON(t, a.body, want); a.status != 200 {
			t.Errorf("%.60s: %d", body, a.status)
		}
	}
	for _, body := range []string{``, `nope`, `5`, `[]`} {
		if a := f.do("POST", "/list_files", body); a.status != 422 || a.detail(t) != "Invalid request parameters" {
			t.Errorf("%q: %d %s", body, a.status, a.body)
		}
	}
	if a := f.behind("POST", "/list_files", `{"path":"sub"}`, credential); a.status != 200 || string(a.body) != `["x"]` {
		t.Errorf("behind the credential: %d %s", a.status, a.body)
	}
	if a := f.behind("POST", "/list_files", `{}`, sessionKey); a.status != 401 {
		t.Errorf("without the credential: %d %s", a.status, a.body)
	}
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func TestPoint12UploadAndDownload(t *testing.T) {
	f := newFace(t)
	deep := f.file("new/deep")
	a := f.upload(t, deep, "", part{"file", "a b.txt", "content"})
	if equalJSON(t, a.body, `{"filename":"a b.txt","destination":`+quoted(deep)+`,"recursive":false}`); a.status != 200 {
		t.Errorf("%d", a.status)
	}
	wantFile(t, deep+"/a b.txt", "content")
	archive := zipped(t, entry{name: "dir/"}, entry{name: "dir/one", content: "1"}, entry{name: "two", content: "2"})
	for _, recursive := range []string{"", "true"} {
		to := f.file("zip" + recursive)
		a := f.upload(t, to, recursive, part{"file", "x.zip", archive})
		if equalJSON(t, a.body, `{"filename":"x.zip","destination":`+quoted(to)+`,"recursive":`+fmt.Sprint(recursive == "true")+`}`); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		wantFile(t, to+"/dir/one", "1")
		wantFile(t, to+"/two", "2")
		wantNames(t, to, "dir", "two")
	}
	for _, c := range []struct{ to, recursive, name, detail string }{
		{"relative", "", "a", "400: Destination must be an absolute path"},
		{deep, "true", "a.txt", "400: Recursive uploads must be zip files"},
	} {
		if a := f.upload(t, c.to, c.recursive, part{"file", c.name, "x"}); a.status != 500 || a.detail(t) != c.detail {
			t.Errorf("%s: %d %s", c.detail, a.status, a.body)
		}
	}
	if a := f.upload(t, deep, "perhaps", part{"file", "a", "x"}); a.status != 422 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := f.upload(t, deep, "", part{"other", "a", "x"}); a.status != 422 {
		t.Errorf("%d %s", a.status, a.body)
	}

	f.write("down/sub/deeper/file", "deep")
	f.write("down/top", "top")
	f.write("outside", "outside")
	must(t, os.MkdirAll(f.file("down/empty"), 0o755))
	must(t, os.Symlink("../outside", f.file("down/link")))
	must(t, os.Symlink("sub", f.file("down/folder-link")))
	must(t, os.Symlink("nowhere", f.file("down/dangling")))
	must(t, syscall.Mkfifo(f.file("down/pipe"), 0o600))
	a = f.do("GET", "/download_files?path="+url.QueryEscape(f.file("down")), "")
	if a.status != 200 || a.header.Get("Content-Type") != "application/zip" || a.header.Get("Content-Disposition") != `attachment; filename="down.zip"` {
		t.Errorf("%d %v", a.status, a.header)
	}
	if got := unzipped(t, a.body); !reflect.DeepEqual(got, map[string]string{"sub/deeper/file": "deep", "top": "top", "link": "outside"}) {
		t.Errorf("%v", got)
	}
	a = f.do("GET", "/download_files?path="+url.QueryEscape(f.file("outside")), "")
	if got := unzipped(t, a.body); a.status != 200 || len(got) != 0 || a.header.Get("Content-Disposition") != `attachment; filename="outside.zip"` {
		t.Errorf("of a file: %d %v", a.status, got)
	}
	for query, want := range map[string]string{
		"path=relative": "400: Path must be an absolute path", "path=": "400: Path must be an absolute path", "path=/nowhere/x": "404: File not found",
	} {
		if a := f.do("GET", "/download_files?"+query, ""); a.status != 500 || a.detail(t) != want {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	if a := f.do("GET", "/download_files", ""); a.status != 422 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// unzipped reads an archive whose entries must not be compressed.
func unzipped(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	must(t, err)
	all := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		must(t, err)
		content, err := io.ReadAll(in)
		must(t, errors.Join(err, in.Close()))
		if all[f.Name] = string(content); f.Method != zip.Store {
			t.Errorf("%s is compressed", f.Name)
		}
	}
	return all
}

func TestPoint13LongActionsSurviveADisconnect(t *testing.T) {
	f := newFace(t)
	gate := f.fifo("gate")
	began := f.fifo("began")
	ctx, cut := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := f.send(ctx, "POST", "/execute_action", strings.NewReader(command("echo x > "+began+"; read x < "+gate+"; echo done >> effect")))
		ended <- err
	}()
	_, err := os.ReadFile(began)
	must(t, err)
	cut()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	next := make(chan answer, 1)
	go func() {
		a, err := f.send(t.Context(), "POST", "/execute_action", strings.NewReader(command("cat effect")))
		if err != nil {
			t.Error(err)
		}
		next <- a
	}()
	release(t, gate)
	if o := (<-next).object(t); o["content"] != "done" {
		t.Errorf("%v", o)
	}
	if _, out := f.run("cat effect"); out != "done" {
		t.Errorf("%q", out)
	}
}

func TestPoint13OneActionAtATime(t *testing.T) {
	f := newFace(t)
	const n = 20
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			a, err := f.send(t.Context(), "POST", "/execute_action", strings.NewReader(command(fmt.Sprintf(
				"if mkdir busy; then x=$(cat count 2>/dev/null || echo 0); echo $((x+1)) > count; rmdir busy; echo turn %d; fi", i))))
			if o := a.object(t); err != nil || o["content"] != fmt.Sprintf("turn %d", i) {
				t.Errorf("%v %v", o, err)
			}
		})
	}
	all.Wait()
	if _, out := f.run("cat count"); out != fmt.Sprint(n) {
		t.Errorf("%q", out)
	}
}

func TestPoint14OneConnectionForAll(t *testing.T) {
	f := newFace(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	must(t, err)
	defer conn.Close()
	reader := newResponses(conn)
	for _, c := range []struct {
		request string
		status  int
	}{
		{"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		{"POST /execute_action HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{}\n", 403},
		{"POST /execute_action HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: " + sessionKey + "\r\nContent-Length: 3\r\n\r\n{}\n", 422},
		{"POST /upload_file?destination=/x HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: " + sessionKey + "\r\nContent-Length: 3\r\n\r\nabc", 422},
		{"POST /execute_action HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: " + sessionKey + "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 422},
		{"GET /download_files?path=/nowhere HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: " + sessionKey + "\r\n\r\n", 500},
		{"GET /server_info HTTP/1.1\r\nHost: x\r\n\r\n", 200},
	} {
		_, err := io.WriteString(conn, c.request)
		must(t, err)
		resp, body := reader.next(t)
		if resp.StatusCode != c.status || resp.Close {
			t.Errorf("%q: %d %s", c.request, resp.StatusCode, body)
		}
	}
}

func TestPoint14AnAgentThatEndsAnswersFirst(t *testing.T) {
	f := newFace(t)
	began := f.fifo("began")
	got := make(chan answer, 1)
	go func() {
		a, err := f.send(t.Context(), "POST", "/execute_action", strings.NewReader(command("echo x > "+began+"; sleep 1000")))
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	_, err := os.ReadFile(began)
	must(t, err)
	must(t, f.process.Signal(syscall.SIGTERM))
	a := <-got
	if o := a.object(t); a.status != 200 || o["observation"] == "run" && o["success"] == true {
		t.Errorf("%d %s", a.status, a.body)
	}
	<-f.exited
}

func TestPoint15UpdateMCPServer(t *testing.T) {
	f := newFace(t)
	server := `{"name":"fetch","command":"uvx","args":["mcp-server-fetch"],"env":{"A":"b"}}`
	for body, log := range map[string]bool{`[]`: false, `[` + server + `]`: true, `[` + server + `,` + server + `]`: true} {
		a := f.do("POST", "/update_mcp_server", body)
		o := a.object(t)
		text, isString := o["router_error_log"].(string)
		if a.status != 200 || o["detail"] != "MCP server updated successfully" || !isString || (text != "") != log || len(o) != 2 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	for body, status := range map[string]int{
		`{}`: 400, `"x"`: 400, `null`: 400, `nope`: 500, `[5]`: 500, `[{"name":"a b","command":"x"}]`: 500, `[{"name":"a","command":"x y"}]`: 500,
		`[{"name":"a"}]`: 500,
	} {
		want := "Request must be a list of MCP tools to sync"
		if status == 500 {
			want = "An unexpected error occurred. Please try again later."
		}
		if a := f.do("POST", "/update_mcp_server", body); a.status != status || a.detail(t) != want {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := f.do("GET", "/mcp/sse", "", "Authorization", "Bearer "+sessionKey); a.status != 404 || a.detail(t) != "Not Found" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestPoint16ConnectionToken(t *testing.T) {
	f := newFace(t)
	if a := f.do("GET", "/vscode/connection_token", ""); a.status != 200 || string(a.body) != `{"token":null}` {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestServerInfo(t *testing.T) {
	f := newFace(t)
	f.run("true")
	number := func(o map[string]any, keys ...string) float64 {
		var v any = o
		for _, key := range keys {
			m, _ := v.(map[string]any)
			v = m[key]
		}
		n, ok := v.(float64)
		if !ok || n < 0 {
			t.Errorf("%v: %v", keys, v)
		}
		return n
	}
	a := f.do("GET", "/server_info", "")
	o := a.object(t)
	if number(o, "uptime") <= number(o, "idle_time") {
		t.Errorf("%s", a.body)
	}
	if rss, vms := number(o, "resources", "memory", "rss"), number(o, "resources", "memory", "vms"); rss < 1<<20 || vms < rss {
		t.Errorf("%s", a.body)
	}
	number(o, "resources", "memory", "percent")
	number(o, "resources", "cpu_percent")
	number(o, "resources", "io", "read_bytes")
	number(o, "resources", "io", "write_bytes")
	var st syscall.Statfs_t
	must(t, syscall.Statfs("/", &st))
	total := number(o, "resources", "disk", "total")
	if total != float64(st.Blocks)*float64(st.Frsize) || number(o, "resources", "disk", "used") > total || number(o, "resources", "disk", "free") > total ||
		number(o, "resources", "disk", "percent") > 100 {
		t.Errorf("%s", a.body)
	}
	before := number(o, "uptime")
	if o := f.do("GET", "/server_info", "").object(t); number(o, "uptime") <= before {
		t.Errorf("uptime stands still")
	}
}

func wantFile(t *testing.T, name, content string) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil || string(raw) != content {
		t.Errorf("%s: %q, %v", name, raw, err)
	}
}

// wantNames wants a folder to hold exactly this.
func wantNames(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, filepath.Base(e.Name()))
	}
	if !slices.Equal(got, names) {
		t.Errorf("%s has %q, want %q", dir, got, names)
	}
}
