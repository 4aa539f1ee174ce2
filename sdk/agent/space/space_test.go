package space

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func open(t *testing.T, root string) *Space {
	t.Helper()
	s, err := New(root, "/workspace")
	if rterr.Is(err, rterr.Unsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestNothingLeavesTheRoot(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(outside+"/secret", []byte("x"), 0o600))
	must(t, os.Symlink(outside+"/secret", root+"/link"))
	must(t, os.Symlink(outside, root+"/folder"))
	must(t, os.Symlink("loop", root+"/loop"))
	s := open(t, root)
	for path, want := range map[string]error{
		"/link": fs.ErrNotExist, "/folder/secret": fs.ErrNotExist, "/../../.." + outside + "/secret": fs.ErrNotExist,
		"/loop": syscall.ELOOP, "/proc/self/root": fs.ErrNotExist,
	} {
		f, err := s.Open(path, unix.O_RDONLY, 0)
		if err == nil {
			_ = f.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if _, err := s.Open("/folder/new", unix.O_CREAT|unix.O_WRONLY, 0o600); err == nil {
		t.Error("a file was made through a link that leads outside")
	}
	if _, err := os.Stat(outside + "/new"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestOpenMakesFilesWithTheirMode(t *testing.T) {
	for name, root := range map[string]string{"confined": t.TempDir(), "free": ""} {
		s := open(t, root)
		dir := "/"
		if root == "" {
			dir = t.TempDir()
		}
		f, err := s.Open(filepath.Join(dir, "new"), unix.O_CREAT|unix.O_WRONLY, 0o640)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil || info.Mode().Perm()&^0o640 != 0 || info.Mode().Perm()&0o600 != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
		must(t, f.Close())
		must(t, s.MakeDirs(filepath.Join(dir, "a/b/c")))
		if err := s.MakeDirs(filepath.Join(dir, "new/b")); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EEXIST) {
			t.Errorf("%s: a folder under a file: %v", name, err)
		}
	}
}

func TestClean(t *testing.T) {
	s := open(t, "")
	for in, want := range map[string]string{"a/../b": "/workspace/b", "/x//y/": "/x/y", "../z": "/z", "": "", "a\x00b": ""} {
		got, err := s.Clean(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(t.TempDir()+"/none", "/"); rterr.From(err).Field != "root" {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
