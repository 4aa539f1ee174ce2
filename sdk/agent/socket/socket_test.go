package socket

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func deep(t *testing.T, length int) string {
	t.Helper()
	dir := t.TempDir()
	for len(dir) < length {
		dir = filepath.Join(dir, strings.Repeat("d", 40))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "agent.sock")
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func talk(t *testing.T, ln net.Listener, path string) {
	t.Helper()
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = peer.Close()
}

func TestPathsOfAnyLength(t *testing.T) {
	for name, length := range map[string]int{"short": 1, "just too long for sun_path": 100, "very long": 900} {
		t.Run(name, func(t *testing.T) {
			path := deep(t, length)
			ln := listen(t, path)
			talk(t, ln, path)
			if got := ln.Addr().String(); got != path {
				t.Errorf("address %q", got)
			}
			info, err := os.Lstat(path)
			if err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
			left, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestDeadNameIsReplaced(t *testing.T) {
	path := deep(t, 1)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	talk(t, listen(t, path), path)
}

func TestLiveNameIsRefused(t *testing.T) {
	path := deep(t, 1)
	first := listen(t, path)
	if _, err := Listen(path); !rterr.Is(err, rterr.AlreadyExists) {
		t.Errorf("%v", err)
	}
	conn, err := first.Accept() // the probe
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	talk(t, first, path)
}

func TestForeignThingsStay(t *testing.T) {
	path := deep(t, 1)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !rterr.Is(err, rterr.AlreadyExists) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ln := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("new owner"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the name's new owner lost it: %v", err)
	}
}

func TestBadPaths(t *testing.T) {
	for _, path := range []string{"", "relative.sock", "/tmp/" + strings.Repeat("n", MaxName+1)} {
		if _, err := Listen(path); !rterr.Is(err, rterr.InvalidArgument) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "none", "a.sock")); !rterr.Is(err, rterr.Network) {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), strings.Repeat("d", 200), "a.sock")); err == nil {
		t.Error("dialled what is not there")
	}
}
