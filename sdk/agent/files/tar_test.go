package files

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func mkfifo(t testing.TB, path string) {
	t.Helper()
	mustNot(t, syscall.Mkfifo(path, 0o600))
}

type entry struct {
	name, link, body string
	kind             byte
	mode             int64
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o644
		}
		mustNot(t, w.WriteHeader(&tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body))}))
		_, err := io.WriteString(w, e.body)
		mustNot(t, err)
	}
	mustNot(t, w.Close())
	return out.Bytes()
}

func TestHostileArchives(t *testing.T) {
	for name, tc := range map[string]struct {
		entries []entry
		reason  rterr.Reason
	}{
		"dot dot":                 {[]entry{{name: "../evil", body: "x"}}, rterr.InvalidArgument},
		"dot dot inside":          {[]entry{{name: "a/../../evil", body: "x"}}, rterr.InvalidArgument},
		"dot dot that stays":      {[]entry{{name: "a/../b", body: "x"}}, rterr.InvalidArgument},
		"absolute":                {[]entry{{name: "/tmp/evil", body: "x"}}, rterr.InvalidArgument},
		"folder dot dot":          {[]entry{{name: "../evil/", kind: tar.TypeDir}}, rterr.InvalidArgument},
		"absolute folder":         {[]entry{{name: "/evil/", kind: tar.TypeDir}}, rterr.InvalidArgument},
		"link to absolute":        {[]entry{{name: "l", link: "/etc", kind: tar.TypeSymlink}}, rterr.InvalidArgument},
		"link out":                {[]entry{{name: "l", link: "../..", kind: tar.TypeSymlink}}, rterr.InvalidArgument},
		"link out of depth":       {[]entry{{name: "a/b/l", link: "../../../x", kind: tar.TypeSymlink}}, rterr.InvalidArgument},
		"link through and out":    {[]entry{{name: "l", link: "a/../../x", kind: tar.TypeSymlink}}, rterr.InvalidArgument},
		"empty link":              {[]entry{{name: "l", link: "", kind: tar.TypeSymlink}}, rterr.InvalidArgument},
		"hard link out":           {[]entry{{name: "l", link: "../secret", kind: tar.TypeLink}}, rterr.InvalidArgument},
		"hard link absolute":      {[]entry{{name: "l", link: "/etc/passwd", kind: tar.TypeLink}}, rterr.InvalidArgument},
		"hard link to a link":     {[]entry{{name: "a", link: "b", kind: tar.TypeSymlink}, {name: "l", link: "a", kind: tar.TypeLink}}, rterr.InvalidArgument},
		"hard link to nothing":    {[]entry{{name: "l", link: "none", kind: tar.TypeLink}}, rterr.NotFound},
		"character device":        {[]entry{{name: "d", kind: tar.TypeChar}}, rterr.InvalidArgument},
		"block device":            {[]entry{{name: "d", kind: tar.TypeBlock}}, rterr.InvalidArgument},
		"pipe":                    {[]entry{{name: "d", kind: tar.TypeFifo}}, rterr.InvalidArgument},
		"file as the folder":      {[]entry{{name: ".", body: "x"}}, rterr.InvalidArgument},
		"through a planted link":  {[]entry{{name: "planted/evil", body: "x"}}, rterr.PermissionDenied},
		"onto a planted link dir": {[]entry{{name: "planted/sub/", kind: tar.TypeDir}}, rterr.PermissionDenied},
		"file over folder":        {[]entry{{name: "full/", kind: tar.TypeDir}, {name: "full", body: "x"}}, rterr.AlreadyExists},
		"too many entries":        {[]entry{{name: "a"}, {name: "b"}, {name: "c"}, {name: "d"}, {name: "e"}, {name: "f"}}, rterr.LimitExceeded},
		"too many bytes":          {[]entry{{name: "a", body: strings.Repeat("x", 600)}, {name: "b", body: strings.Repeat("x", 600)}}, rterr.LimitExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := service(t, func(c *Config) { c.MaxEntries, c.MaxFile = 5, 1000 })
			outside := t.TempDir()
			mustNot(t, os.Mkdir(filepath.Join(dir, "dst"), 0o755))
			write(t, filepath.Join(dir, "secret"), "secret")
			mustNot(t, os.Symlink(outside, filepath.Join(dir, "dst/planted")))
			_, _, err := call(t, s, "PUT", query("path", "dst", "archive", "tar"), bytes.NewReader(archive(t, tc.entries...)))
			want(t, err, tc.reason)
			if left, _ := os.ReadDir(outside); len(left) != 0 {
				t.Errorf("outside: %v", left)
			}
			if left, _ := os.ReadDir(dir); len(left) != 2 {
				t.Errorf("beside: %v", left)
			}
		})
	}
}

func TestLinksAreReplacedNotFollowed(t *testing.T) {
	s, dir := service(t)
	write(t, filepath.Join(dir, "victim"), "untouched")
	write(t, filepath.Join(dir, "dst/kept"), "old")
	mustNot(t, os.Link(filepath.Join(dir, "victim"), filepath.Join(dir, "dst/hard")))
	mustNot(t, os.Symlink("../victim", filepath.Join(dir, "dst/soft")))
	raw := archive(t, entry{name: "hard", body: "new"}, entry{name: "soft", body: "new"}, entry{name: "kept", body: "new", mode: 0o4755},
		entry{name: "l", link: "kept", kind: tar.TypeSymlink}, entry{name: "l", body: "file now"}, entry{name: "twin", link: "kept", kind: tar.TypeLink},
		entry{name: "deep/inside", body: "x"}, entry{name: "ro/", kind: tar.TypeDir, mode: 0o555}, entry{name: "ro/f", body: "x"})
	_, answer, err := call(t, s, "PUT", query("path", "dst", "archive", "tar"), bytes.NewReader(raw))
	mustNot(t, err)
	if !strings.Contains(answer, `"entries":9`) {
		t.Error(answer)
	}
	for name, content := range map[string]string{"victim": "untouched", "dst/hard": "new", "dst/soft": "new", "dst/kept": "new", "dst/l": "file now", "dst/twin": "new", "dst/deep/inside": "x", "dst/ro/f": "x"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != content {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if info, _ := os.Stat(filepath.Join(dir, "dst/kept")); info.Mode() != 0o755 {
		t.Errorf("set-id bits were taken over: %v", info.Mode())
	}
	if info, _ := os.Stat(filepath.Join(dir, "dst/ro")); info.Mode().Perm() != 0o555 {
		t.Error(info.Mode())
	}
}

func TestCutArchive(t *testing.T) {
	s, dir := service(t)
	raw := archive(t, entry{name: "a", body: strings.Repeat("x", 5000)}, entry{name: "b", body: "y"})
	for _, at := range []int{100, 512, 600, 3000, len(raw) / 2} {
		_, _, err := call(t, s, "PUT", query("path", "dst", "archive", "tar"), bytes.NewReader(raw[:at]))
		want(t, err, rterr.InvalidArgument)
	}
	_, _, err := call(t, s, "PUT", query("path", "dst", "archive", "tar"), strings.NewReader("no tar at all, but long enough "+strings.Repeat("z", 1000)))
	want(t, err, rterr.InvalidArgument)
	_, _, err = call(t, s, "GET", query("path", "none", "archive", "tar"), nil)
	want(t, err, rterr.NotFound)
	_ = dir
}

func FuzzEntry(f *testing.F) {
	for _, s := range [][2]string{{"a/b", "../c"}, {"/a", "/b"}, {"..", ".."}, {"a//b/./c", "x/../../y"}, {"a\x00", ""}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, name, target string) {
		clean, err := entryName(name)
		if err == nil && (!filepath.IsLocal(clean) || strings.ContainsRune(clean, 0)) {
			t.Errorf("entry %q became %q", name, clean)
		}
		if err == nil && linkTarget(clean, target) == nil {
			if to := filepath.Join(filepath.Dir(clean), target); !filepath.IsLocal(to) {
				t.Errorf("link %q to %q leads to %q", clean, target, to)
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, entry{name: "a/b", body: "x"}, entry{name: "l", link: "a", kind: tar.TypeSymlink}, entry{name: "l/c", body: "y"}))
	f.Add(archive(f, entry{name: "../a", body: "x"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		outer := t.TempDir()
		s, err := New(Config{Workspace: outer, MaxFile: 1 << 16, MaxEntries: 50})
		mustNot(t, err)
		_, _, err = call(t, s, "PUT", query("path", "dst", "archive", "tar"), bytes.NewReader(raw))
		_ = err // refused or not: nothing may appear beside the folder
		if left, _ := os.ReadDir(outer); len(left) != 1 {
			t.Errorf("beside the folder: %v", left)
		}
		_ = os.Chmod(filepath.Join(outer, "dst"), 0o700)
	})
}
