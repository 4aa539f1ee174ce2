package python

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// fake makes a python3 that is a script, and returns the PATH on which it is found.
func fake(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return dir
}

func base(t *testing.T) *Base {
	return New(filepath.Join(t.TempDir(), "python"), os.Environ())
}

func TestAnInterpreterWithIpykernelIsTaken(t *testing.T) {
	path := fake(t, "exit 0")
	b := base(t)
	for range 2 {
		got, err := b.Interpreter(t.Context(), "/nowhere::"+path)
		if err != nil || got != filepath.Join(path, "python3") {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := os.Stat(b.dir); err == nil {
		t.Error("an environment was made")
	}
}

func TestWithoutPythonThereIsARemedy(t *testing.T) {
	_, err := base(t).Interpreter(t.Context(), t.TempDir())
	if !rterr.Is(err, rterr.Unsupported) || rterr.From(err).Remedy == "" {
		t.Error(err)
	}
}

// The script plays the parts of python: it lacks ipykernel, makes environments that have it, and is pip in them.
const maker = `case "$*" in
*"import ipykernel"*) exit 1 ;;
*"-m venv"*) mkdir -p "$3/bin" && printf '#!/bin/sh\nexit %s\n' "$PIP_STATUS" >"$3/bin/python3" && chmod +x "$3/bin/python3" ;;
*) exit 9 ;;
esac`

func TestAnEnvironmentIsMadeOnceAndKept(t *testing.T) {
	path := fake(t, maker)
	b := base(t)
	b.env = append(os.Environ(), "PIP_STATUS=0")
	got, err := b.Interpreter(t.Context(), path)
	if err != nil || !strings.HasPrefix(got, b.dir) {
		t.Fatalf("%q, %v", got, err)
	}
	again := New(b.dir, append(os.Environ(), "PIP_STATUS=1")) // it could not make another
	if kept, err := again.Interpreter(t.Context(), path); err != nil || kept != got {
		t.Errorf("%q, %v", kept, err)
	}
}

func TestAnEnvironmentThatCannotBeMadeLeavesNothing(t *testing.T) {
	path := fake(t, maker)
	b := base(t)
	b.env = append(os.Environ(), "PIP_STATUS=1")
	_, err := b.Interpreter(t.Context(), path)
	if !rterr.Is(err, rterr.Unsupported) || !strings.Contains(rterr.From(err).Remedy, "pip") {
		t.Error(err)
	}
	left, err := os.ReadDir(b.dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestACancelledCallerWaitsForNothing(t *testing.T) {
	path := fake(t, "exec sleep 100")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := base(t).Interpreter(ctx, path); err == nil {
		t.Error("it found something")
	}
}
