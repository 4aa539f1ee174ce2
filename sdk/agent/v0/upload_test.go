package v0_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"testing"
)

// part is one field of a form; without a file name it is plain text.
type part struct{ field, name, content string }

// form encodes fields as they are: names of files are not cleaned.
func form(t *testing.T, parts ...part) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		disposition := `form-data; name="` + p.field + `"`
		if p.name != "-" {
			disposition += `; filename="` + p.name + `"`
		}
		out, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {disposition}, "Content-Type": {"application/octet-stream"}})
		must(t, err)
		_, err = io.WriteString(out, p.content)
		must(t, err)
	}
	must(t, w.Close())
	return b.String(), w.FormDataContentType()
}

func (f *face) upload(t *testing.T, destination, recursive string, parts ...part) answer {
	t.Helper()
	body, contentType := form(t, parts...)
	query := url.Values{"destination": {destination}}
	if recursive != "" {
		query.Set("recursive", recursive)
	}
	return f.do("POST", "/upload_file?"+query.Encode(), body, "Content-Type", contentType)
}

// entry is one of an archive.
type entry struct {
	name, content string
	mode          fs.FileMode
	// change is done to the header last.
	change func(*zip.FileHeader)
}

func zipped(t *testing.T, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		if e.change == nil {
			out, err := w.CreateHeader(h)
			must(t, err)
			if !strings.HasSuffix(e.name, "/") {
				_, err = io.WriteString(out, e.content)
				must(t, err)
			}
			continue
		}
		h.Method, h.CRC32 = zip.Store, crc32.ChecksumIEEE([]byte(e.content))
		h.CompressedSize64, h.UncompressedSize64 = uint64(len(e.content)), uint64(len(e.content))
		e.change(h)
		out, err := w.CreateRaw(h)
		must(t, err)
		_, err = io.WriteString(out, e.content)
		must(t, err)
	}
	must(t, w.Close())
	return b.String()
}

// bomb is an archive of that many files, each of them 64 MiB of nothing.
func bomb(t *testing.T, files int) string {
	t.Helper()
	const size = 64 << 20
	sum := crc32.NewIEEE()
	var packed, b bytes.Buffer
	deflate, err := flate.NewWriter(&packed, flate.BestSpeed)
	must(t, err)
	_, err = io.CopyN(io.MultiWriter(deflate, sum), zeros{}, size)
	must(t, errors.Join(err, deflate.Close()))
	w := zip.NewWriter(&b)
	for i := range files {
		out, err := w.CreateRaw(&zip.FileHeader{Name: "zeros-" + strings.Repeat("x", i), Method: zip.Deflate, CRC32: sum.Sum32(),
			CompressedSize64: uint64(packed.Len()), UncompressedSize64: size})
		must(t, err)
		_, err = out.Write(packed.Bytes())
		must(t, err)
	}
	must(t, w.Close())
	return b.String()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestHostileUploads: none of them writes outside its folder, leaves anything behind, or harms what comes after it.
func TestHostileUploads(t *testing.T) {
	f := newFace(t)
	good := entry{name: "good", content: "good"}
	file := func(name string) []part { return []part{{"file", name, "hostile"}} }
	archive := func(entries ...entry) []part {
		return []part{{"file", "x.zip", zipped(t, append([]entry{good}, entries...)...)}}
	}
	for name, c := range map[string]struct {
		parts  []part
		status int
		detail string
	}{
		"name with parents":      {file("../escaped"), 500, "400: File name"},
		"absolute name":          {file(f.file("escaped")), 500, "400: File name"},
		"name with a folder":     {file("sub/escaped"), 500, "400: File name"},
		"dot dot":                {file(".."), 500, "400: File name"},
		"dot":                    {file("."), 500, "400: File name"},
		"empty name":             {file(""), 500, "400: File name"},
		"too long a name":        {file(strings.Repeat("n", 256)), 500, "400: File name"},
		"name of a temporary":    {file(".openhands-rt-upload-x"), 500, "400: File name"},
		"zip name with parents":  {[]part{{"file", "../x.zip", zipped(t, good)}}, 500, "400: File name"},
		"text as the file":       {[]part{{"file", "-", "hostile"}}, 422, "Invalid request parameters"},
		"no zip":                 {[]part{{"file", "x.zip", "hostile"}}, 500, "not a zip archive"},
		"cut zip":                {[]part{{"file", "x.zip", zipped(t, good)[:40]}}, 500, "not a zip archive"},
		"slip by parents":        {archive(entry{name: "../escaped", content: "hostile"}), 500, `".." in its name`},
		"slip in the middle":     {archive(entry{name: "a/../../escaped", content: "hostile"}), 500, `".." in its name`},
		"slip by absolute name":  {archive(entry{name: f.file("escaped"), content: "hostile"}), 500, "absolute name"},
		"entry with a NUL":       {archive(entry{name: "a\x00b", content: "hostile"}), 500, "impossible name"},
		"the folder as a file":   {archive(entry{name: ".", content: "hostile"}), 500, "in place of the folder"},
		"file and folder in one": {archive(entry{name: "x", content: "1"}, entry{name: "x/y", content: "2"}), 500, "x/y"},
		"a lie about the size": {archive(entry{name: "lie", content: "hostile", change: func(h *zip.FileHeader) {
			h.Method, h.UncompressedSize64 = zip.Deflate, 3
		}}), 500, "lie"},
		"a bad checksum": {archive(entry{name: "lie", content: "hostile", change: func(h *zip.FileHeader) { h.CRC32++ }}), 500, "checksum"},
		"encrypted":      {archive(entry{name: "secret", content: "hostile", change: func(h *zip.FileHeader) { h.Flags |= 1 }}), 500, "is encrypted"},
		"unknown method": {archive(entry{name: "odd", content: "hostile", change: func(h *zip.FileHeader) { h.Method = 99 }}), 500, "unsupported compression"},
		"a huge promise": {archive(entry{name: "huge", content: "hostile", change: func(h *zip.FileHeader) { h.UncompressedSize64 = 1 << 50 }}), 500, "more than"},
		"a bomb":         {[]part{{"file", "x.zip", bomb(t, 5)}}, 500, "times as many"},
	} {
		t.Run(name, func(t *testing.T) {
			to := f.file("in/" + strings.ReplaceAll(name, " ", "-"))
			a := f.upload(t, to, "", c.parts...)
			if a.status != c.status || !strings.Contains(a.detail(t), c.detail) {
				t.Errorf("%d %.300s", a.status, a.body)
			}
			if _, err := os.Stat(to); err == nil {
				wantNames(t, to)
			}
			for _, outside := range []string{"escaped", "in/escaped"} {
				if _, err := os.Lstat(f.file(outside)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v", outside, err)
				}
			}
		})
	}
	if a := f.upload(t, f.file("after"), "", part{"note", "-", "x"}, part{"file", "fine", "fine"}); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	wantFile(t, f.file("after/fine"), "fine")
}

// TestLinksInUploads: what is a link in an archive becomes a plain file, what is one in the sandbox leads nowhere else.
func TestLinksInUploads(t *testing.T) {
	f := newFace(t)
	f.write("outside/victim", "untouched")
	to := f.file("in")
	archive := zipped(t, entry{name: "link", content: f.file("outside"), mode: fs.ModeSymlink | 0o777}, entry{name: "pipe", content: "p", mode: fs.ModeNamedPipe | 0o600},
		entry{name: "root", content: "r", mode: fs.ModeSetuid | 0o755})
	if a := f.upload(t, to, "", part{"file", "x.zip", archive}); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, content := range map[string]string{"link": f.file("outside"), "pipe": "p", "root": "r"} {
		wantFile(t, to+"/"+name, content)
		if info, err := os.Lstat(to + "/" + name); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	must(t, os.Symlink(f.file("outside"), to+"/way-out"))
	must(t, os.Symlink(f.file("outside/victim"), to+"/victim"))
	if a := f.upload(t, to, "", part{"file", "x.zip", zipped(t, entry{name: "new", content: "n"}, entry{name: "way-out/victim", content: "hostile"})}); a.status != 500 {
		t.Errorf("through a link of the sandbox: %d %s", a.status, a.body)
	}
	for _, p := range []part{{"file", "victim", "mine"}, {"file", "x.zip", zipped(t, entry{name: "victim", content: "mine"})}} {
		if a := f.upload(t, to, "", p); a.status != 200 {
			t.Errorf("%s over a link: %d %s", p.name, a.status, a.body)
		}
		wantFile(t, to+"/victim", "mine")
	}
	wantFile(t, f.file("outside/victim"), "untouched")
	wantNames(t, to, "link", "pipe", "root", "victim", "way-out")
}

// TestUploadsMergeAndReplace: what is there stays unless it has the name of what comes.
func TestUploadsMergeAndReplace(t *testing.T) {
	f := newFace(t)
	f.write("in/dir/kept", "kept")
	f.write("in/dir/old", "old")
	f.write("in/file", "old")
	must(t, os.Chmod(f.file("in/file"), 0o755))
	archive := zipped(t, entry{name: "dir/old", content: "new"}, entry{name: "dir/sub/new", content: "new"}, entry{name: "twice", content: "1"}, entry{name: "twice", content: "2"})
	if a := f.upload(t, f.file("in"), "", part{"file", "x.zip", archive}); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, content := range map[string]string{"dir/kept": "kept", "dir/old": "new", "dir/sub/new": "new", "twice": "2", "file": "old"} {
		wantFile(t, f.file("in/"+name), content)
	}
	if a := f.upload(t, f.file("in"), "", part{"file", "file", "new"}); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	wantFile(t, f.file("in/file"), "new")
	if info, err := os.Stat(f.file("in/file")); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	for _, p := range []part{{"file", "dir", "x"}, {"file", "x.zip", zipped(t, entry{name: "z", content: "1"}, entry{name: "dir", content: "1"})},
		{"file", "x.zip", zipped(t, entry{name: "z", content: "1"}, entry{name: "file/"})}, {"file", "x.zip", zipped(t, entry{name: "z", content: "1"}, entry{name: "file/under", content: "1"})}} {
		if a := f.upload(t, f.file("in"), "", p); a.status != 500 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	wantNames(t, f.file("in"), "dir", "file", "twice")
}

// TestCutUploadsLeaveNothing: the connection ends in the middle of the file.
func TestCutUploadsLeaveNothing(t *testing.T) {
	f := newFace(t)
	for _, name := range []string{"cut.txt", "cut.zip"} {
		body, contentType := form(t, part{"file", name, zipped(t, entry{name: "x", content: strings.Repeat("content ", 10000)})})
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		must(t, err)
		head := "POST /upload_file?destination=" + url.QueryEscape(f.file("in")) + " HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: " + sessionKey +
			"\r\nContent-Type: " + contentType + "\r\nTransfer-Encoding: chunked\r\n\r\n"
		half := body[:len(body)/2]
		_, err = io.WriteString(conn, head+hex(len(half))+"\r\n"+half+"\r\n0\r\n\r\n")
		must(t, err)
		if resp, raw := newResponses(conn).next(t); resp.StatusCode != 500 || !bytes.Contains(raw, []byte(`"detail"`)) {
			t.Errorf("%d %s", resp.StatusCode, raw)
		}
		must(t, conn.Close())
		wantNames(t, f.file("in"))
	}
}

func hex(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hex(n/16) + digits[n%16:n%16+1]
}

// responses are the answers of one connection.
type responses struct{ r *bufio.Reader }

func newResponses(conn net.Conn) *responses { return &responses{bufio.NewReader(conn)} }

func (r *responses) next(t *testing.T) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.ReadResponse(r.r, nil)
	must(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, raw
}
