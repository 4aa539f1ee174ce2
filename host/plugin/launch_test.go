package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestEnvironmentIsAnAllowList(t *testing.T) {
	spec := specFor("plain", "")
	spec.EnvAllow, spec.Limits.MemoryBytes = []string{"AWS_*", "PROXY"}, 1<<28
	r := started(t, spec, func(o *Options) {
		o.HostEnv = []string{"PATH=/bin", "SECRET=1", "AWS_REGION=x", "AWSX=1", "PROXY=p", "PROXY2=p", "*=1"}
	})
	env := strings.Split(r.ask(t, "env"), "\n")
	for _, want := range []string{"PATH=/bin", "AWS_REGION=x", "PROXY=p", "GOMEMLIMIT=268435456", "OPENHANDS_RT_LOG_LEVEL=trace"} {
		if !slices.Contains(env, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, pair := range env {
		for _, not := range []string{"SECRET=", "AWSX=", "PROXY2=", "*="} {
			if strings.HasPrefix(pair, not) {
				t.Errorf("%q reached the plugin", pair)
			}
		}
	}
}

func TestOpenFilesAreLimited(t *testing.T) {
	spec := specFor("plain", "")
	spec.Limits.OpenFiles = 300
	if got := started(t, spec).ask(t, "files"); got != "300" {
		t.Errorf("limit %s", got)
	}
}

func TestPinnedProgram(t *testing.T) {
	exe, err := openExecutable(specFor("plain", ""))
	if err != nil {
		t.Fatal(err)
	}
	exe.file.Close()
	spec := specFor("plain", "")
	spec.SHA256 = "sha256:" + strings.ToUpper(exe.sha256)
	r := started(t, spec)
	r.ask(t, "")
	if got := r.Snapshot().SHA256; got != exe.sha256 {
		t.Errorf("digest %s", got)
	}
	spec = specFor("plain", "")
	spec.SHA256 = strings.Repeat("0", 64)
	s := started(t, spec).await(t, Misconfigured)
	if e := rterr.From(s.LastError); e.Reason != rterr.Integrity || e.Evidence["sha256_found"] != exe.sha256 {
		t.Errorf("%v, evidence %v", e, e.Evidence)
	}
}

// TestTheCheckedFileRuns swaps the program between check and start.
func TestTheCheckedFileRuns(t *testing.T) {
	for _, name := range []string{"binary", "script"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "program")
			write := func(text string) {
				if err := os.WriteFile(path+".new", []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
			}
			if name == "script" {
				write("#!/bin/sh\necho checked $1 >&2\n")
			} else if err := copyFile("/bin/echo", path); err != nil {
				t.Fatal(err)
			}
			spec := Spec{Backend: "b", Command: []string{path, "checked"}}
			exe, err := openExecutable(spec)
			if err != nil {
				t.Fatal(err)
			}
			write("#!/bin/sh\necho swapped >&2\n")
			thread := newThread()
			defer thread.stop()
			p := newProcess(spec, nil, exe, thread, newSink(hclog.NewNullLogger()))
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			exe.file.Close()
			<-p.exited
			if got := p.sink.output().Lines; len(got) != 1 || !strings.HasPrefix(got[0], "checked") {
				t.Errorf("output %q, %s", got, p.exitStatus())
			}
		})
	}
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}

func TestProgramsThatCannotRun(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{filepath.Join(dir, "none"), plain, dir, "no-such-program-anywhere"} {
		s := started(t, Spec{Backend: "b", Command: []string{program}}).await(t, Misconfigured)
		if !rterr.Is(s.LastError, rterr.ConfigInvalid) {
			t.Errorf("%s: %v", program, s.LastError)
		}
	}
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := specFor("plain", "")
	spec.Command[0] = garbage
	r := started(t, spec)
	if s := r.await(t, Quarantined); !strings.Contains(s.LastError.Error(), "exec format error") {
		t.Errorf("garbage: %v", s.LastError)
	}
	if left := r.sockets(t); len(left) > 0 {
		t.Errorf("folders are left: %v", left)
	}
}

func TestSpecErrors(t *testing.T) {
	for name, c := range map[string]struct {
		spec  Spec
		field string
	}{
		"nothing":     {Spec{Backend: "b"}, "backends.b.command"},
		"both":        {Spec{Backend: "b", Command: []string{"x"}, Address: "unix:///x"}, "backends.b.command"},
		"empty":       {Spec{Backend: "b", Command: []string{""}}, "backends.b.command"},
		"no name":     {Spec{Command: []string{"x"}}, "backends"},
		"digest":      {Spec{Backend: "b", Command: []string{"x"}, SHA256: "12"}, "backends.b.sha256"},
		"pin address": {Spec{Backend: "b", Address: "unix:///x", SHA256: strings.Repeat("a", 64)}, "backends.b.sha256"},
		"config":      {Spec{Backend: "b", Command: []string{"x"}, Config: []byte("{")}, "backends.b.config"},
	} {
		err := New(c.spec, Options{RuntimeDir: t.TempDir()}).Start(t.Context())
		if e := rterr.From(err); err == nil || e.Reason != rterr.ConfigInvalid || e.Field != c.field {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSocketBase(t *testing.T) {
	short := filepath.Join(shortDir(t), "a", "b")
	base, remove, err := socketBase(short, "backend")
	if err != nil || filepath.Dir(base) != short || checkPrivate(base) != nil {
		t.Fatalf("%q, %v", base, err)
	}
	if err := os.MkdirAll(filepath.Join(base, "plugin-dir1", "left"), 0o700); err != nil {
		t.Fatal(err)
	}
	other, removeOther, err := socketBase(short, "other backend")
	if err != nil || other == base {
		t.Fatalf("%q, %v", other, err)
	}
	defer removeOther()
	if left, _ := os.ReadDir(base); len(left) != 1 {
		t.Error("another backend's folder was emptied")
	}
	if again, _, err := socketBase(short, "backend"); err != nil || again != base {
		t.Errorf("%q, %v", again, err)
	}
	if left, _ := os.ReadDir(base); len(left) != 0 {
		t.Errorf("what an earlier host left is still there: %v", left)
	}
	remove()
	if _, err := os.Stat(base); !os.IsNotExist(err) {
		t.Errorf("%s is left", base)
	}
}

func TestLongSocketFolderIsReplaced(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 80))
	base, remove, err := socketBase(long, strings.Repeat("b", 200))
	if err != nil || len(base)+perLaunch > maxSocketDir || checkPrivate(base) != nil {
		t.Errorf("%q, %v", base, err)
	}
	remove()
	if _, err := os.Stat(filepath.Dir(base)); !os.IsNotExist(err) {
		t.Errorf("%s is left", filepath.Dir(base))
	}
}

func TestSocketFolderMustBePrivate(t *testing.T) {
	open := filepath.Join(shortDir(t), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(shortDir(t), "link")
	if err := os.Symlink(shortDir(t), link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{open, file, link} {
		if _, _, err := socketBase(dir, "b"); !rterr.Is(err, rterr.ConfigInvalid) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestAPluginCannotSendTheHostElsewhere(t *testing.T) {
	p := &process{socketDir: "/run/x"}
	for address, ok := range map[string]bool{
		"unix /run/x/plugin1": true, "unix /run/xy/plugin1": false, "unix /run/x/../y": false, "unix /run/x": false, "tcp 127.0.0.1:80": false,
	} {
		network, target, _ := strings.Cut(address, " ")
		if _, _, err := p.PluginToHost(network, target); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestRestartLoopLeaksNothing kills a plugin twenty times. Goroutines are goleak's; here are descriptors, sockets and children.
func TestRestartLoopLeaksNothing(t *testing.T) {
	spec := specFor("plain", "")
	spec.Restart.Budget = -1
	r := started(t, spec)
	r.ask(t, "")
	var pids []int
	files := openFiles(t)
	for range 20 {
		r.await(t, Running)
		s := r.Snapshot()
		pids = append(pids, s.PID)
		p := r.currentProcess()
		p.signal(9)
		<-p.exited
	}
	r.await(t, Running)
	r.ask(t, "")
	if now := openFiles(t); now > files+3 { // the runtime may open one of its own
		t.Errorf("%d open files, %d before", now, files)
	}
	if left := r.sockets(t); len(left) != 1 {
		t.Errorf("folders of sockets: %v", left)
	}
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil && pid != r.Snapshot().PID {
			t.Errorf("plugin %d is left", pid)
		}
	}
	if s := r.Snapshot(); s.Starts != 21 || s.Failures != 20 {
		t.Errorf("starts %d, failures %d", s.Starts, s.Failures)
	}
}

// sockets are the folders of launches that are there.
func (r *rig) sockets(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(r.dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (r *rig) currentProcess() *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.link.(*processLink).process
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
