package cli

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/hosttest"
)

// write makes a file with its folders.
func write(t *testing.T, path string, content []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
}

// same checks a file's content and mode.
func same(t *testing.T, path string, content []byte, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if !bytes.Equal(got, content) || info.Mode().Perm() != mode {
		t.Errorf("%s: %d bytes mode %o, want %d bytes mode %o", path, len(got), info.Mode().Perm(), len(content), mode)
	}
}

func TestCpFileBothWays(t *testing.T) {
	h := hosttest.New(t)
	box, here := h.Add("r-1", "demo"), t.TempDir()
	content, _ := random(3 << 20)
	src := filepath.Join(here, "a b.bin")
	write(t, src, content, 0o751)
	write(t, filepath.Join(here, "empty"), nil, 0o600)
	if err := os.Mkdir(filepath.Join(box, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for dst, at := range map[string]string{"demo:x": "x", "r-1:dir": "dir/a b.bin", "r-1:": "a b.bin", "r-1:" + box + "/abs": "abs"} {
		run(t, h, "cp", src, dst).want(t, 0, "", "")
		same(t, filepath.Join(box, at), content, 0o751)
	}
	run(t, h, "cp", filepath.Join(here, "empty"), "r-1:e").want(t, 0, "", "")
	same(t, filepath.Join(box, "e"), nil, 0o600)

	out := t.TempDir()
	run(t, h, "cp", "r-1:x", out).want(t, 0, "", "")
	same(t, filepath.Join(out, "x"), content, 0o751)
	run(t, h, "cp", "r-1:e", filepath.Join(out, "x")).want(t, 0, "", "") // replaces
	same(t, filepath.Join(out, "x"), nil, 0o600)
}

func TestCpResumesWhereACutLeftOff(t *testing.T) {
	h := hosttest.New(t)
	box, here := h.Add("r-1", ""), t.TempDir()
	content, _ := random(20 << 20)
	src, dst := filepath.Join(here, "big"), filepath.Join(here, "back")
	write(t, src, content, 0o644)
	sizes := rand.New(rand.NewPCG(5, 6))
	h.CutReads(func() int64 { return 2<<20 + sizes.Int64N(6<<20) })
	r := run(t, h, "cp", src, "r-1:big")
	if r.code != 0 || strings.Count(r.err, "lost") != 1 {
		t.Fatalf("%+v", r)
	}
	same(t, filepath.Join(box, "big"), content, 0o644)
	ups := h.Cuts()
	h.CutReads(nil)
	h.CutWrites(func() int64 { return 2<<20 + sizes.Int64N(6<<20) })
	if r := run(t, h, "cp", "r-1:big", dst); r.code != 0 || strings.Count(r.err, "lost") != 1 {
		t.Fatalf("%+v", r)
	}
	same(t, dst, content, 0o644)
	if ups < 2 || h.Cuts() < ups+2 {
		t.Errorf("%d cuts, %d of them of the upload", h.Cuts(), ups)
	}
	left, err := filepath.Glob(filepath.Join(here, ".openhands-rt-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCpGivesUpAndLeavesNothing(t *testing.T) {
	h := hosttest.New(t)
	box, here := h.Add("r-1", ""), t.TempDir()
	content, _ := random(4 << 20)
	write(t, filepath.Join(box, "big"), content, 0o644)
	h.CutWrites(func() int64 { return 2 << 20 })
	r := run(t, h, "cp", "--reconnect", "0", "r-1:big", filepath.Join(here, "back"))
	if r.code != 1 || !strings.Contains(r.err, "copy r-1:big") {
		t.Errorf("%+v", r)
	}
	if entries, err := os.ReadDir(here); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestCpFoldersBothWays(t *testing.T) {
	h := hosttest.New(t)
	box, here := h.Add("r-1", ""), t.TempDir()
	src := filepath.Join(here, "src")
	content, _ := random(700 << 10)
	write(t, filepath.Join(src, "a/b/deep.bin"), content, 0o640)
	write(t, filepath.Join(src, "run.sh"), []byte("#!/bin/sh\n"), 0o755)
	if err := os.Symlink("a/b/deep.bin", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(src, "empty"), 0o750); err != nil {
		t.Fatal(err)
	}
	check := func(dir string) {
		t.Helper()
		same(t, filepath.Join(dir, "a/b/deep.bin"), content, 0o640)
		same(t, filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o755)
		if target, err := os.Readlink(filepath.Join(dir, "link")); err != nil || target != "a/b/deep.bin" {
			t.Errorf("link: %q, %v", target, err)
		}
		if info, err := os.Stat(filepath.Join(dir, "empty")); err != nil || !info.IsDir() {
			t.Errorf("empty folder: %v", err)
		}
	}
	run(t, h, "cp", src, "r-1:new").want(t, 0, "", "")
	check(filepath.Join(box, "new"))
	run(t, h, "cp", src, "r-1:new").want(t, 0, "", "") // is there now: goes into it
	check(filepath.Join(box, "new/src"))
	run(t, h, "cp", src+"/.", "r-1:new/deeper").want(t, 0, "", "")
	check(filepath.Join(box, "new/deeper"))

	back := filepath.Join(here, "back")
	run(t, h, "cp", "r-1:new/src", back).want(t, 0, "", "")
	check(back)
	run(t, h, "cp", "r-1:new/src", back).want(t, 0, "", "")
	check(filepath.Join(back, "src"))
}

func TestCpErrors(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	here := t.TempDir()
	write(t, filepath.Join(here, "f"), nil, 0o600)
	for name, args := range map[string][]string{
		"both here": {"a", "b"}, "both there": {"r-1:a", "r-1:b"}, "colon in a local path": {"./r-1:a", "/x:y"},
	} {
		if r := run(t, h, append([]string{"cp"}, args...)...); r.code != 2 || !strings.Contains(r.err, "RUNTIME:PATH") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, args := range map[string][]string{
		"no such file here": {filepath.Join(here, "none"), "r-1:x"}, "no such file there": {"r-1:none", here},
		"no such runtime": {filepath.Join(here, "f"), "r-9:x"}, "no such folder here": {"r-1:.", filepath.Join(here, "f/sub")},
	} {
		if r := run(t, h, append([]string{"cp"}, args...)...); r.code != 1 || !strings.Contains(r.err, "→ ") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
