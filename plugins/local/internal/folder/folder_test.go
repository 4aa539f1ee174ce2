package folder

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func open(t *testing.T) Root {
	t.Helper()
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWriteRead(t *testing.T) {
	r, id := open(t), ID("o", "i")
	lock, err := r.Lock(id, true)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	want := Meta{Schema: Schema, SandboxID: id, Owner: "o", IntentID: "i", CreatedAt: time.Unix(5, 0).UTC(), Labels: map[string]string{"a": "b"},
		PID: 7, StartTime: 9, Ready: true}
	if err := r.Write(want); err != nil {
		t.Fatal(err)
	}
	got, err := r.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(r.Path(id, "meta.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if ids, err := r.IDs(); err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestReadRefuses(t *testing.T) {
	r, id := open(t), ID("o", "i")
	if _, err := r.Read(id); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := r.Read("../x"); !rterr.Is(err, rterr.InvalidArgument) {
		t.Errorf("a path: %v", err)
	}
	if err := os.Mkdir(r.Path(id), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{
		"newer": `{"schema":2,"sandbox_id":"` + id + `"}`, "none": `{"sandbox_id":"` + id + `"}`, "torn": `{"schema":1`,
		"another's": `{"schema":1,"sandbox_id":"` + ID("o", "j") + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(r.Path(id, "meta.json"), []byte(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Read(id); !rterr.Is(err, rterr.Integrity) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLock(t *testing.T) {
	r, id := open(t), ID("o", "i")
	if _, err := r.Lock(id, false); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("no folder: %v", err)
	}
	first, err := r.Lock(id, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Lock(id, true); !rterr.Is(err, rterr.Unavailable) {
		t.Errorf("held: %v", err)
	}
	first.Close()
	first.Close()
	second, err := r.Lock(id, true)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	(*Lock)(nil).Close()
}

func TestRemoveAndSweep(t *testing.T) {
	r, id := open(t), ID("o", "i")
	deep := r.Path(id, "workspace", "cache", "mod")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(deep, "f"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(deep, 0o500); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(r.dir, trash+id+"-X", "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(r.dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestID(t *testing.T) {
	a, b := ID("o", "i"), ID("oi", "")
	if a == b || a != ID("o", "i") || CheckID(a) != nil {
		t.Errorf("%s, %s", a, b)
	}
	for _, bad := range []string{"", "s-", "../../etc", "s-ABCDEFGHIJKLMNOPQRST", a + "/x"} {
		if CheckID(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schema":1,"pid":5}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := decode(raw); err == nil && m.Schema != Schema {
			t.Errorf("schema %d", m.Schema)
		}
	})
}
