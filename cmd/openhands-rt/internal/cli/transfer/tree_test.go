package transfer

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// archive makes a tar of entries.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == tar.TypeReg {
			h.Size, h.Mode = 4, 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("evil")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackNeverLeavesItsFolder(t *testing.T) {
	for name, raw := range map[string][]byte{
		"dots":      archive(t, tar.Header{Name: "../out", Typeflag: tar.TypeReg}),
		"absolute":  archive(t, tar.Header{Name: "/tmp/out", Typeflag: tar.TypeReg}),
		"link":      archive(t, tar.Header{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}, tar.Header{Name: "l/out", Typeflag: tar.TypeReg}),
		"hard link": archive(t, tar.Header{Name: "h", Linkname: "../secret", Typeflag: tar.TypeLink}),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("s"), 0o600); err != nil {
			t.Fatal(err)
		}
		in := filepath.Join(dir, "in")
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := unpack(root, bytes.NewReader(raw)); err == nil {
			t.Errorf("%s: was unpacked", name)
		} else if name == "dots" && !rterr.Is(err, rterr.Integrity) {
			t.Errorf("%s: %v", name, err)
		}
		_ = root.Close()
		if _, err := os.Lstat(filepath.Join(dir, "out")); err == nil {
			t.Errorf("%s: wrote outside", name)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "a/b", Typeflag: tar.TypeReg}, tar.Header{Name: "l", Linkname: "a", Typeflag: tar.TypeSymlink}))
	f.Add([]byte("no tar"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		in := filepath.Join(dir, "in")
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(in)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = unpack(root, bytes.NewReader(raw)) // what matters is where it wrote
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("wrote outside: %v, %v", entries, err)
		}
	})
}
