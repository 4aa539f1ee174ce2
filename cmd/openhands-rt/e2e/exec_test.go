package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExecKeepsStreamsApartAndGivesTheExitCode(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	r := d.cli("exec", "--new", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
	if r.stdout != "out\n" || r.stderr != "err\n" || r.code != 3 {
		t.Errorf("stdout %q, stderr %q, exit code %d", r.stdout, r.stderr, r.code)
	}
	if left := d.must("runtimes", "ls", "-o", "json"); strings.Contains(left, `"id"`) {
		t.Errorf("a runtime is left: %s", left)
	}
}

func TestALargeInputArrivesWhole(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start")
	file := filepath.Join(t.TempDir(), "f")
	sum := sha256.New()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.Reader, 100<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := d.cliWith(f, "exec", "--runtime", id, "--", "sha256sum")
	if want := hex.EncodeToString(sum.Sum(nil)); !strings.HasPrefix(r.stdout, want) || r.code != 0 {
		t.Errorf("%q (exit code %d, %s), want %s", r.stdout, r.code, r.stderr, want)
	}
	d.must("cp", file, id+":/workspace/copy")
	if out := d.must("exec", "--runtime", id, "--", "sha256sum", "/workspace/copy"); !strings.HasPrefix(out, hex.EncodeToString(sum.Sum(nil))) {
		t.Errorf("cp in: %s", out)
	}
	back := filepath.Join(t.TempDir(), "back")
	d.must("cp", id+":/workspace/copy", back)
	again := sha256.New()
	b, err := os.Open(back)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := io.Copy(again, b); err != nil {
		t.Fatal(err)
	}
	if string(again.Sum(nil)) != string(sum.Sum(nil)) {
		t.Error("cp out: another content")
	}
}

func TestTheShellKeepsItsState(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	id := d.must("runtimes", "start")
	d.must("run", "--runtime", id, "cd /tmp && export COLOUR=blue")
	if out := d.must("run", "--runtime", id, "pwd; echo $COLOUR"); out != "/tmp\nblue" {
		t.Errorf("%q", out)
	}
	if r := d.cli("run", "--runtime", id, "false"); r.code != 1 {
		t.Errorf("exit code %d", r.code)
	}
}
