package sandbox

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// selfCopy returns a copy of the test binary that anybody may execute.
func selfCopy(t *testing.T) string {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(openDir(t), "self")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// openDir returns a folder that anybody may use.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sandbox-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mounts returns the machine's mounts, to see that none was added.
func mounts(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func entries(t *testing.T, dirs ...string) string {
	t.Helper()
	var all []string
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return strings.Join(all, "\n")
}

// testUser is what whoever runs the tests is called in their roots.
const testUser = "openhands-test"

// inRoot runs a script in a root of its own, as root or as nobody, and returns its output.
func inRoot(t *testing.T, uid uint32, script string) (out string, spec RootSpec) {
	t.Helper()
	dir, self := openDir(t), selfCopy(t)
	spec = RootSpec{Scratch: filepath.Join(dir, "root"), Workspace: filepath.Join(dir, "w"), Home: filepath.Join(dir, "h"), Username: testUser}
	for _, folder := range []string{spec.Scratch, spec.Workspace, spec.Home} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(folder, int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
	}
	before, real := mounts(t), entries(t, "/", "/home")
	var cmd *exec.Cmd
	if uid == 0 {
		cmd = exec.Command("/bin/sh", "-c", script)
		if err := spec.Wrap(cmd, []string{self}); err != nil {
			t.Fatal(err)
		}
	} else { // The maps are of who starts it, so that must be nobody too.
		cmd = exec.Command(self, spec.Scratch, spec.Workspace, spec.Home, script)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	cmd.Env = append(os.Environ(), "SANDBOX_TEST_ROLE="+map[bool]string{true: "shim", false: "wrap"}[uid == 0])
	raw, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	if after := mounts(t); after != before {
		t.Errorf("the machine's mounts have changed:\n%s\n%s", before, after)
	}
	if after := entries(t, "/", "/home"); after != real {
		t.Errorf("the machine's root has changed:\n%s\n%s", real, after)
	}
	if left := entries(t, spec.Scratch); left != "" {
		t.Errorf("the scratch folder holds %s", left)
	}
	return string(raw), spec
}

func asBoth(t *testing.T, test func(t *testing.T, uid uint32)) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	t.Run("root", func(t *testing.T) { test(t, 0) })
	t.Run("nobody", func(t *testing.T) { test(t, nobody) })
}

func TestRootHasBothFolders(t *testing.T) {
	asBoth(t, func(t *testing.T, uid uint32) {
		out, spec := inRoot(t, uid, `echo one >/workspace/f && echo two >/home/openhands/g && id -u && ls -d /etc/passwd /bin /proc/self /dev/null /home && pwd && echo x >/dev/null`)
		want := map[uint32]string{0: "0", nobody: "65534"}[uid] + "\n/bin\n/dev/null\n/etc/passwd\n/home\n/proc/self\n/\n"
		if out != want {
			t.Errorf("got %q, want %q", out, want)
		}
		for path, want := range map[string]string{filepath.Join(spec.Workspace, "f"): "one\n", filepath.Join(spec.Home, "g"): "two\n"} {
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("%s holds %q, %v", path, got, err)
			}
		}
	})
}

func TestRootGivesItsUserAName(t *testing.T) {
	asBoth(t, func(t *testing.T, uid uint32) {
		machine, err := os.ReadFile(passwdFile)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := inRoot(t, uid, `id -un; touch /workspace/f; stat -c %U /workspace/f; stat -c %a /etc/passwd; ls -A / | grep -c passwd; tail -n +2 /etc/passwd`)
		want := testUser + "\n" + testUser + "\n644\n0\n" + string(machine)
		if out != want {
			t.Errorf("got %q, want %q", out, want)
		}
		if after, err := os.ReadFile(passwdFile); err != nil || !bytes.Equal(after, machine) {
			t.Errorf("the machine's users have changed, %v", err)
		}
	})
}

func TestRootKeepsNoCapability(t *testing.T) {
	asBoth(t, func(t *testing.T, uid uint32) {
		out, _ := inRoot(t, uid, `grep -E 'Cap(Amb|Eff)' /proc/self/status; mount -t tmpfs none /mnt 2>/dev/null && umount /mnt && echo mounts; exit 0`)
		if !strings.Contains(out, "CapAmb:\t0000000000000000") {
			t.Errorf("ambient capabilities are left: %s", out)
		}
		if uid != 0 && (strings.Contains(out, "mounts") || !strings.Contains(out, "CapEff:\t0000000000000000")) {
			t.Errorf("capabilities are left: %s", out)
		}
	})
}

// TestRootSeesTheMachine: what the machine has is there, links as links, its root's own files too; new files at the root stay
// in the sandbox.
func TestRootSeesTheMachine(t *testing.T) {
	asBoth(t, func(t *testing.T, uid uint32) {
		out, _ := inRoot(t, uid, `ls -A /; echo --; ls -A /home; [ $(id -u) = 0 ] && touch /only-here; exit 0`)
		root, home, _ := strings.Cut(out, "--\n")
		for _, name := range strings.Split(entries(t, "/"), "\n") {
			info, err := os.Lstat(name)
			special := err == nil && info.Mode()&(os.ModeSocket|os.ModeNamedPipe|os.ModeDevice) != 0
			if !special && !strings.Contains("\n"+root, "\n"+filepath.Base(name)+"\n") {
				t.Errorf("%s is not there", name)
			}
		}
		for _, name := range []string{"workspace", "home"} {
			if !strings.Contains("\n"+root, "\n"+name+"\n") {
				t.Errorf("/%s is not there", name)
			}
		}
		for _, name := range strings.Fields(entries(t, "/home")) {
			if !strings.Contains("\n"+home, "\n"+filepath.Base(name)+"\n") {
				t.Errorf("%s is not there", name)
			}
		}
	})
}

func TestEnterMainSaysWhyNot(t *testing.T) {
	for name, args := range map[string][]string{
		"no arguments":  nil,
		"bad spec":      {"{", "/bin/true", "true"},
		"no such place": {`{"scratch":"/no/such/folder"}`, "/bin/true", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", args...)
			cmd.Env = append(os.Environ(), "SANDBOX_TEST_ROLE=shim")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			if os.Getuid() != 0 {
				cmd.SysProcAttr = nil
			}
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if cmd.Run() == nil || cmd.ProcessState.ExitCode() != enterFailed || !strings.Contains(errs.String(), "enter the sandbox's root: ") {
				t.Errorf("status %d, %q", cmd.ProcessState.ExitCode(), errs.String())
			}
		})
	}
}

// TestUnprivileged runs the probes and a walked tree as nobody.
func TestUnprivileged(t *testing.T) {
	asBoth(t, func(t *testing.T, uid uint32) {
		for _, role := range []string{"probe", "walk"} {
			dir := openDir(t)
			cmd := exec.Command(selfCopy(t), dir)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			cmd.Env = append(os.Environ(), "SANDBOX_TEST_ROLE="+role)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", role, err, out)
			}
			if role == "probe" && uid != 0 && !strings.Contains(string(out), `v2=""`) {
				t.Errorf("nobody has a cgroup: %s", out)
			}
			if left := entries(t, dir); left != "" {
				t.Errorf("left behind: %s", left)
			}
		}
	})
}
