package answer

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestFilesKeepPrincipalsSessionsAndNamesApart(t *testing.T) {
	f := open(t)
	long := strings.Repeat("ä", 200)
	keys := [][3]string{
		{"p", "s", "n"}, {"q", "s", "n"}, {"p", "s2", "n"}, {"p", "s", "n2"}, {"p", "..", "n"}, {"p", ".", "n"}, {"..", "s", "n"},
		{"p", long, "n"}, {"p", long + "x", "n"}, {"p", "../../etc", "passwd"}, {"", "", ""}, {"p", "a b", "n"}, {"p", "a\x00b", "n"},
		{"p", nameOf("a b"), "n"},
	}
	for i, k := range keys {
		if err := f.Write(k[0], k[1], k[2], []byte{byte(i)}); err != nil {
			t.Fatalf("%q: %v", k, err)
		}
	}
	for i, k := range keys {
		got, err := f.Read(k[0], k[1], k[2])
		if err != nil || len(got) != 1 || got[0] != byte(i) {
			t.Errorf("%q: %v, %v", k, got, err)
		}
	}
	if _, err := f.Read("p", "never", "n"); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("%v", err)
	}
}

func TestFilesStayInTheirFolder(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	f, err := OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.MkdirAll(filepath.Join(dir, "p", "sessions"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "p", "sessions", "s")); err != nil {
		t.Fatal(err)
	}
	if err := f.Write("p", "s", "n", []byte("x")); err == nil {
		t.Error("it was written through a link")
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("outside: %v", left)
	}
}

func TestAReaderNeverSeesHalfAFile(t *testing.T) {
	f := open(t)
	texts := []string{strings.Repeat("a", 100_000), strings.Repeat("b", 100_000)}
	if err := f.Write("p", "s", "n", []byte(texts[0])); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 20 {
		writers.Go(func() {
			if err := f.Write("p", "s", "n", []byte(texts[i%2])); err != nil {
				t.Error(err)
			}
		})
	}
	for range 100 {
		if got, err := f.Read("p", "s", "n"); err != nil || (string(got) != texts[0] && string(got) != texts[1]) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	writers.Wait()
	left, err := os.ReadDir(filepath.Join(f.root.Name(), "p", "sessions", "s"))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v: temporary files are left", left, err)
	}
}

func TestFilesSayNoPathsOfTheHost(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filepath.Join(dir, "p"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = f.Write("p", "s", "n", []byte("x"))
	if err == nil || strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "sessions") {
		t.Errorf("%v", err)
	}
	if _, err := OpenFiles(filepath.Join(dir, "p", "below")); !rterr.Is(err, rterr.ConfigInvalid) {
		t.Errorf("a folder that cannot be: %v", err)
	}
}
