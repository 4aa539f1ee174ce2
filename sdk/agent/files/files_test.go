package files

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func service(t testing.TB, change ...func(*Config)) (*Service, string) {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Workspace: dir}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, dir
}

func mustNot(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	mustNot(t, os.MkdirAll(filepath.Dir(path), 0o755))
	mustNot(t, os.WriteFile(path, []byte(content), 0o644))
}

// call makes one request and returns the answer, read to its end, and the error that it tells.
func call(t testing.TB, s *Service, method string, q url.Values, body io.Reader, header ...string) (*http.Response, string, error) {
	t.Helper()
	r := httptest.NewRequest(method, "/files?"+q.Encode(), body)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	resp := w.Result()
	raw, err := io.ReadAll(resp.Body)
	mustNot(t, err)
	if resp.StatusCode >= 400 && resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		return resp, string(raw), rthttp.Read(resp.StatusCode, raw)
	}
	return resp, string(raw), nil
}

func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q
}

func want(t testing.TB, err error, reason rterr.Reason) *rterr.Error {
	t.Helper()
	if rterr.ReasonOf(err) != reason {
		t.Fatalf("got %v (%v), want %v", err, rterr.ReasonOf(err), reason)
	}
	return rterr.From(err)
}

func TestNewNamesTheField(t *testing.T) {
	for field, cfg := range map[string]Config{
		"workspace":                         {Workspace: "relative"},
		"root":                              {Workspace: "/w", Root: "/none/of/this"},
		"max_file, max_entries, upload_ttl": {Workspace: "/w", MaxFile: -1},
	} {
		_, err := New(cfg)
		if e := want(t, err, rterr.InvalidArgument); e.Field != field {
			t.Errorf("%q: %v", field, err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	s, _ := service(t)
	for name, tc := range map[string]struct {
		method string
		q      url.Values
		field  string
	}{
		"no path":        {"GET", query(), "path"},
		"NUL":            {"GET", query("path", "a\x00b"), "path"},
		"long":           {"GET", query("path", strings.Repeat("x", 5000)), "path"},
		"archive":        {"GET", query("path", "a", "archive", "zip"), "archive"},
		"no upload":      {"PUT", query("path", "a"), "upload"},
		"bad upload":     {"PUT", query("path", "a", "upload", "../x"), "upload"},
		"bad offset":     {"PUT", query("path", "a", "upload", "u", "offset", "-1"), "offset"},
		"huge offset":    {"PUT", query("path", "a", "upload", "u", "offset", "9223372036854775808"), "offset"},
		"bad final":      {"PUT", query("path", "a", "upload", "u", "final", "perhaps"), "final"},
		"bad sum":        {"PUT", query("path", "a", "upload", "u", "sha256", "ABC"), "sha256"},
		"bad mode":       {"PUT", query("path", "a", "upload", "u", "mode", "4755"), "mode"},
		"upload to root": {"PUT", query("path", "/", "upload", "u"), "path"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := call(t, s, tc.method, tc.q, strings.NewReader(""))
			if e := want(t, err, rterr.InvalidArgument); e.Field != tc.field {
				t.Errorf("field %q: %v", e.Field, err)
			}
		})
	}
	_, _, err := call(t, s, "DELETE", query("path", "a"), nil)
	want(t, err, rterr.Unsupported)
}

func TestRanges(t *testing.T) {
	s, dir := service(t)
	write(t, filepath.Join(dir, "f"), "0123456789")
	write(t, filepath.Join(dir, "empty"), "")
	for _, tc := range []struct {
		file, header, body string
		status             int
	}{
		{"f", "", "0123456789", 200},
		{"f", "bytes=0-", "0123456789", 206},
		{"f", "bytes=3-5", "345", 206},
		{"f", "bytes=9-9", "9", 206},
		{"f", "bytes=8-99", "89", 206},
		{"f", "bytes=-3", "789", 206},
		{"f", "bytes=-99", "0123456789", 206},
		{"f", "bytes=10-", "", 416},
		{"f", "bytes=-0", "", 416},
		{"f", "bytes=5-3", "0123456789", 200},
		{"f", "bytes=1-2,4-5", "0123456789", 200},
		{"f", "lines=1-2", "0123456789", 200},
		{"f", "bytes=+1-2", "0123456789", 200},
		{"empty", "bytes=0-", "", 200},
		{"empty", "bytes=1-", "", 416},
	} {
		t.Run(tc.file+" "+tc.header, func(t *testing.T) {
			resp, body, err := call(t, s, "GET", query("path", tc.file), nil, "Range", tc.header)
			mustNot(t, err)
			if resp.StatusCode != tc.status || tc.status != 416 && body != tc.body {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
			if tc.status != 416 && resp.Trailer.Get("Repr-Digest") == "" {
				t.Error("no digest")
			}
		})
	}
	resp, _, _ := call(t, s, "HEAD", query("path", "f"), nil)
	if resp.Header.Get("Content-Length") != "10" {
		t.Error(resp.Header)
	}
	_, body, _ := call(t, s, "GET", query("path", "f"), nil, "Range", "bytes=5-", "If-Range", `"other"`)
	if body != "0123456789" {
		t.Errorf("a range of another file: %q", body)
	}
}

func FuzzRange(f *testing.F) {
	for _, h := range []string{"bytes=0-", "bytes=-5", "bytes=1-2", "bytes=9223372036854775807-", "bytes=0-9223372036854775807", "bytes=--", "x"} {
		f.Add(h, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, ok, err := parseRange(header, size)
		if ok && (err != nil || s.start < 0 || s.length <= 0 || s.start+s.length > size || s.start+s.length < 0) {
			t.Errorf("%q of %d: %+v, %v", header, size, s, err)
		}
	})
}

func FuzzPiece(f *testing.F) {
	f.Add("upload=u&offset=5&final=true&mode=644")
	f.Add("upload=%00&offset=0x5")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		p, err := parsePiece(q)
		if err == nil && (p.offset < 0 || p.mode > 0o777 || checkUpload(p.upload) != nil || p.sum != "" && len(p.sum) != 64) {
			t.Errorf("%q: %+v", raw, p)
		}
		if err != nil && rterr.From(err).Field == "" {
			t.Errorf("%q: %v names no field", raw, err)
		}
	})
}

func TestSpecialFilesAreNotWaitedFor(t *testing.T) {
	s, dir := service(t)
	mkfifo(t, filepath.Join(dir, "pipe"))
	_, _, err := call(t, s, "GET", query("path", "pipe"), nil)
	want(t, err, rterr.InvalidArgument)
	_, body, err := call(t, s, "GET", query("path", "/proc/self/status"), nil)
	mustNot(t, err)
	if !strings.Contains(body, "Pid:") {
		t.Errorf("%q", body)
	}
}

func TestUploadPieces(t *testing.T) {
	s, dir := service(t)
	put := func(offset, body string, more ...string) (Uploaded, *http.Response, error) {
		resp, raw, err := call(t, s, "PUT", query(append([]string{"path", "f", "upload", "u", "offset", offset}, more...)...), strings.NewReader(body))
		var u Uploaded
		if err == nil {
			mustNot(t, json.Unmarshal([]byte(raw), &u))
		}
		return u, resp, err
	}
	write(t, filepath.Join(dir, "f"), "old")
	mustNot(t, os.Chmod(filepath.Join(dir, "f"), 0o751))
	_, _, err := put("0", "hello ")
	mustNot(t, err)
	_, resp, err := put("0", "hello ")
	if e := want(t, err, rterr.IllegalState); resp.Header.Get("Upload-Offset") != "6" || e.Evidence["upload_offset"] != "6" {
		t.Errorf("%v %v", resp.Header, e)
	}
	resp, _, err = call(t, s, "HEAD", query("path", "f", "upload", "u"), nil)
	if err != nil || resp.Header.Get("Upload-Offset") != "6" {
		t.Errorf("%v %v", resp.Header, err)
	}
	list, err := s.ListFiles(t.Context(), &agentv1.ListFilesRequest{Path: "."})
	mustNot(t, err)
	if len(list.Files) != 1 {
		t.Errorf("the unfinished file is listed: %v", list.Files)
	}
	if raw, _ := os.ReadFile(filepath.Join(dir, "f")); string(raw) != "old" {
		t.Errorf("%q before the end", raw)
	}
	u, _, err := put("6", "world", "final", "true")
	mustNot(t, err)
	if !u.Complete || u.Offset != 11 || u.SHA256 == "" {
		t.Errorf("%+v", u)
	}
	info, _ := os.Stat(filepath.Join(dir, "f"))
	if raw, _ := os.ReadFile(filepath.Join(dir, "f")); string(raw) != "hello world" || info.Mode().Perm() != 0o751 {
		t.Errorf("%q %v", raw, info.Mode())
	}
	again, _, err := put("6", "world", "final", "true", "sha256", u.SHA256) // the answer was lost
	if err != nil || again != u {
		t.Errorf("%+v %v", again, err)
	}
	resp, _, _ = call(t, s, "HEAD", query("path", "f", "upload", "u"), nil)
	if resp.Header.Get("Upload-Offset") != "11" || resp.Header.Get(UploadCompleteHeader) != "?1" {
		t.Errorf("%v", resp.Header)
	}
	_, _, err = put("11", "more")
	want(t, err, rterr.IllegalState)
	_, _, err = call(t, s, "HEAD", query("path", "f", "upload", "other"), nil)
	want(t, err, rterr.NotFound)
}

func TestUploadTargets(t *testing.T) {
	s, dir := service(t)
	mustNot(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	write(t, filepath.Join(dir, "victim"), "untouched")
	mustNot(t, os.Symlink("victim", filepath.Join(dir, "link")))
	_, _, err := call(t, s, "PUT", query("path", "d", "upload", "u", "final", "true"), strings.NewReader("x"))
	want(t, err, rterr.InvalidArgument)
	_, _, err = call(t, s, "PUT", query("path", "none/f", "upload", "u", "final", "true"), strings.NewReader("x"))
	want(t, err, rterr.NotFound)
	_, _, err = call(t, s, "PUT", query("path", "link", "upload", "u", "final", "true"), strings.NewReader("x"))
	mustNot(t, err)
	if raw, _ := os.ReadFile(filepath.Join(dir, "victim")); string(raw) != "untouched" {
		t.Error("written through a link")
	}
	// A link in place of the hidden file is not followed either.
	mustNot(t, os.Symlink("victim", filepath.Join(dir, tempName("g", "u"))))
	_, _, err = call(t, s, "PUT", query("path", "g", "upload", "u", "final", "true"), strings.NewReader("x"))
	want(t, err, rterr.InvalidArgument)
	if raw, _ := os.ReadFile(filepath.Join(dir, "victim")); string(raw) != "untouched" {
		t.Error("written through a planted link")
	}
}

func TestUploadLimit(t *testing.T) {
	s, dir := service(t, func(c *Config) { c.MaxFile = 10 })
	_, _, err := call(t, s, "PUT", query("path", "f", "upload", "u"), strings.NewReader("0123456789"))
	mustNot(t, err)
	_, _, err = call(t, s, "PUT", query("path", "f", "upload", "u", "offset", "10"), strings.NewReader("x"))
	want(t, err, rterr.LimitExceeded)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStaleUploadsAreSwept(t *testing.T) {
	state := t.TempDir()
	for name, restart := range map[string]bool{"same service": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			s, dir := service(t, func(c *Config) { c.StateDir, c.UploadTTL = state, time.Hour })
			_, _, err := call(t, s, "PUT", query("path", "f", "upload", "u"), strings.NewReader("part"))
			mustNot(t, err)
			temp := filepath.Join(dir, tempName("f", "u"))
			past := time.Now().Add(-2 * time.Hour)
			mustNot(t, os.Chtimes(temp, past, past))
			s.uploads.live[filepath.Join(dir, "f")+"\x00u"].last = past
			if restart {
				s, _ = service(t, func(c *Config) { c.Workspace, c.StateDir, c.UploadTTL = dir, state, time.Hour })
			}
			_, _, err = call(t, s, "PUT", query("path", "g", "upload", "u2", "final", "true"), strings.NewReader("x"))
			mustNot(t, err)
			if _, err := os.Lstat(temp); !os.IsNotExist(err) {
				t.Errorf("still there: %v", err)
			}
			if notes, _ := os.ReadDir(filepath.Join(state, notesDir)); len(notes) != 0 {
				t.Errorf("notes left: %v", notes)
			}
		})
	}
}

// deadlineRecorder is a response whose request body can be cut by a read deadline, as a connection's can.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	body *io.PipeReader
}

func (d deadlineRecorder) SetReadDeadline(time.Time) error {
	return d.body.CloseWithError(os.ErrDeadlineExceeded)
}

func TestANewRequestTakesOverAnUpload(t *testing.T) {
	s, dir := service(t)
	pr, pw := io.Pipe()
	first := deadlineRecorder{httptest.NewRecorder(), pr}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := httptest.NewRequestWithContext(context.Background(), "PUT", "/files?"+query("path", "f", "upload", "u").Encode(), pr)
		s.ServeHTTP(first, r)
	}()
	for range 3 { // each write returns when it was read
		_, err := pw.Write([]byte("abc"))
		mustNot(t, err)
	}
	_, body, err := call(t, s, "PUT", query("path", "f", "upload", "u", "offset", "9", "final", "true"), strings.NewReader("!"))
	mustNot(t, err)
	<-done
	if !strings.Contains(body, `"offset":10`) || first.Code < 400 {
		t.Errorf("%s, first %d", body, first.Code)
	}
	if raw, _ := os.ReadFile(filepath.Join(dir, "f")); string(raw) != "abcabcabc!" {
		t.Errorf("%q", raw)
	}
}

func TestStatListMakeRemove(t *testing.T) {
	s, dir := service(t)
	write(t, filepath.Join(dir, "b/f"), "12345")
	mustNot(t, os.Symlink("f", filepath.Join(dir, "b/link")))
	mustNot(t, os.Symlink("b", filepath.Join(dir, "dirlink")))
	stat := func(path string, noFollow bool) *agentv1.FileInfo {
		t.Helper()
		resp, err := s.StatFile(&agentv1.StatFileRequest{Path: path, NoFollow: noFollow})
		mustNot(t, err)
		return resp.Info
	}
	if i := stat("b/link", false); i.Size != 5 || i.Dir || i.LinkTarget != "" || i.Mode != 0o644 || i.ModifiedAt == nil {
		t.Error(i)
	}
	if i := stat("b/link", true); i.LinkTarget != "f" || i.Name != "link" || i.Path != filepath.Join(dir, "b/link") {
		t.Error(i)
	}
	if i := stat("/", true); !i.Dir {
		t.Error(i)
	}
	for range 2 {
		_, err := s.MakeDir(&agentv1.MakeDirRequest{Path: "x/y/z"})
		mustNot(t, err)
	}
	_, err := s.MakeDir(&agentv1.MakeDirRequest{Path: "b/f"})
	if err == nil {
		t.Error("a folder in place of a file")
	}
	list, err := s.ListFiles(t.Context(), &agentv1.ListFilesRequest{Path: "dirlink"})
	mustNot(t, err)
	if len(list.Files) != 2 || list.Files[0].Name != "f" || list.Files[1].LinkTarget != "f" || list.Truncated {
		t.Error(list)
	}
	_, err = s.ListFiles(t.Context(), &agentv1.ListFilesRequest{Path: "b/f"})
	want(t, err, rterr.InvalidArgument)
	_, err = s.RemoveFile(t.Context(), &agentv1.RemoveFileRequest{Path: "b"})
	want(t, err, rterr.IllegalState)
	_, err = s.RemoveFile(t.Context(), &agentv1.RemoveFileRequest{Path: "dirlink", Recursive: true})
	mustNot(t, err)
	if _, err := os.Stat(filepath.Join(dir, "b/f")); err != nil {
		t.Error("removed through a link")
	}
	_, err = s.RemoveFile(t.Context(), &agentv1.RemoveFileRequest{Path: "b", Recursive: true})
	mustNot(t, err)
	_, err = s.RemoveFile(t.Context(), &agentv1.RemoveFileRequest{Path: "b"})
	want(t, err, rterr.NotFound)
	_, err = s.RemoveFile(t.Context(), &agentv1.RemoveFileRequest{Path: "/", Recursive: true})
	want(t, err, rterr.InvalidArgument)
}

func TestLongListsAreTruncated(t *testing.T) {
	s, dir := service(t)
	for i := range maxListed + 1 {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%05d", i)))
		mustNot(t, err)
		mustNot(t, f.Close())
	}
	list, err := s.ListFiles(t.Context(), &agentv1.ListFilesRequest{Path: "."})
	mustNot(t, err)
	if len(list.Files) != maxListed || !list.Truncated {
		t.Errorf("%d, %v", len(list.Files), list.Truncated)
	}
}

func TestRootConfines(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside, "secret")
	write(t, filepath.Join(root, "work/f"), "inside")
	write(t, filepath.Join(root, "abs"), "root's own")
	mustNot(t, os.Symlink(outside, filepath.Join(root, "work/absolute")))
	mustNot(t, os.Symlink("../../../../../.."+outside, filepath.Join(root, "work/relative")))
	mustNot(t, os.Symlink(filepath.Dir(outside), filepath.Join(root, "work/dir")))
	mustNot(t, os.Symlink("/abs", filepath.Join(root, "work/inner")))
	s, _ := service(t, func(c *Config) { c.Workspace, c.Root = "/work", root })
	for path, content := range map[string]string{"f": "inside", "/work/f": "inside", "inner": "root's own", "../abs": "root's own", "../../../abs": "root's own"} {
		_, body, err := call(t, s, "GET", query("path", path), nil)
		if err != nil || body != content {
			t.Errorf("%s: %q %v", path, body, err)
		}
	}
	for _, path := range []string{"absolute", "relative", "dir/secret", outside, "../../../.." + outside, "/proc/self/root" + outside} {
		if _, _, err := call(t, s, "GET", query("path", path), nil); err == nil {
			t.Errorf("read %s", path)
		}
		if _, err := s.StatFile(&agentv1.StatFileRequest{Path: path}); err == nil {
			t.Errorf("saw %s", path)
		}
	}
	_, _, err := call(t, s, "PUT", query("path", "dir/new", "upload", "u", "final", "true"), strings.NewReader("x"))
	if err == nil {
		t.Error("wrote outside")
	}
	_, err = s.RemoveFile(t.Context(), &agentv1.RemoveFileRequest{Path: "dir/secret", Recursive: true})
	if err == nil {
		t.Error("removed outside")
	}
	_, _, err = call(t, s, "PUT", query("path", "new/dir", "archive", "tar"), bytes.NewReader(archive(t, entry{name: "a/b", body: "c"})))
	mustNot(t, err)
	if raw, err := os.ReadFile(filepath.Join(root, "work/new/dir/a/b")); err != nil || string(raw) != "c" {
		t.Error(string(raw), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(outside)); len(left) != 1 {
		t.Errorf("outside: %v", left)
	}
}
