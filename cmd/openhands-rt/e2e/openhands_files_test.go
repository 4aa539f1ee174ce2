package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// upload sends a file as httpx does.
func (s *session) upload(query, name, content string) (int, string) {
	s.t.Helper()
	body := fmt.Sprintf("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=%q\r\n\r\n%s\r\n--b--\r\n", name, content)
	return ask(s.t, http.MethodPost, s.url+"/upload_file?"+query, body, "X-Session-API-Key", s.key, "Content-Type", "multipart/form-data; boundary=b")
}

// unzipped are the files of an archive.
func unzipped(t *testing.T, raw string) map[string]string {
	t.Helper()
	archive, err := zip.NewReader(strings.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatalf("%v: %q", err, raw[:min(len(raw), 200)])
	}
	out := map[string]string{}
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(content)
	}
	return out
}

func TestPoint11ListsOfFiles(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	s.run("mkdir -p b A/deep; touch z Y .hidden; ln -s nowhere dangling; ln -s A link")
	want := `["A/","b/","link/",".hidden","Y","z"]`
	for name, body := range map[string]string{"no path": `{}`, "null": `{"path": null}`, "absolute": `{"path": "/workspace"}`, "relative": `{"path": "."}`} {
		code, got := s.post("/list_files", body)
		if compact := strings.ReplaceAll(got, " ", ""); code != http.StatusOK || compact != want {
			t.Errorf("%s: %d %s, want %s", name, code, got, want)
		}
	}
	for _, path := range []string{"/nowhere", "/workspace/z"} {
		if code, got := s.post("/list_files", `{"path": "`+path+`"}`); code != http.StatusOK || strings.TrimSpace(got) != "[]" {
			t.Errorf("%s: %d %s", path, code, got)
		}
	}
}

func TestPoint12FilesBothWays(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	large := strings.Repeat("0123456789abcdef", 1<<19) // 8 MiB
	code, body := s.upload("destination=/workspace/new/folder&recursive=false", "a.bin", large)
	var answer object
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusOK || text(answer, "filename") != "a.bin" ||
		text(answer, "destination") != "/workspace/new/folder" || answer["recursive"] != false {
		t.Fatalf("%d %s", code, body)
	}
	if got, want := s.content("sha256sum < new/folder/a.bin"), fmt.Sprintf("%x  -", sha256.Sum256([]byte(large))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	f, err := w.Create("tree/sub/b.txt")
	if err == nil {
		_, err = io.WriteString(f, "bee")
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	if code, body := s.upload("destination=/workspace/in&recursive=true", "tree.zip", packed.String()); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	s.run("mkdir in/empty; ln -s tree/sub/b.txt in/link")
	code, raw := s.get("/download_files?path=/workspace/in")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, raw)
	}
	if got := unzipped(t, raw); len(got) != 2 || got["tree/sub/b.txt"] != "bee" || got["link"] != "bee" {
		t.Errorf("%v", got)
	}
	for name, c := range map[string]func() (int, string){
		"a relative destination": func() (int, string) { return s.upload("destination=in", "a", "x") },
		"recursive and no zip":   func() (int, string) { return s.upload("destination=/workspace&recursive=true", "a", "x") },
		"a relative path":        func() (int, string) { return s.get("/download_files?path=in") },
		"nothing there":          func() (int, string) { return s.get("/download_files?path=/nowhere") },
	} {
		code, body := c()
		var o object
		if json.Unmarshal([]byte(body), &o) != nil || code != http.StatusInternalServerError || text(o, "detail") == "" {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
}

func TestPoint15And16WhatIsNotAvailableSaysSo(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	code, body := s.post("/update_mcp_server", `[{"name": "x", "command": "y", "args": [], "env": {}}]`)
	var o object
	if err := json.Unmarshal([]byte(body), &o); err != nil || code != http.StatusOK || text(o, "detail") == "" || text(o, "router_error_log") == "" {
		t.Errorf("%d %s", code, body)
	}
	if code, body := s.post("/update_mcp_server", `{}`); code != http.StatusBadRequest {
		t.Errorf("no list: %d %s", code, body)
	}
	if code, body := s.get("/vscode/connection_token"); code != http.StatusOK || strings.ReplaceAll(body, " ", "") != `{"token":null}` {
		t.Errorf("%d %s", code, body)
	}
	if obs := s.action("browse", object{"url": "http://localhost"}); obs["observation"] != "error" {
		t.Errorf("%v", obs)
	}
}
