package config

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestCredentialsAreReadFromWhereTheyAre(t *testing.T) {
	t.Setenv("CONFIG_TEST_KEY", "from-env")
	file := write(t, "from-file\r\n")
	for want, r := range map[string]Credential{
		"from-env":       {Env: "CONFIG_TEST_KEY"},
		"from-file":      {File: file},
		"from-command":   {Command: []string{"printf", "%s\\n", "from-command"}},
		"two\nlines":     {Command: []string{"printf", "two\\nlines\\n"}},
		" spaces count ": {Command: []string{"printf", " spaces count "}},
	} {
		if got, err := r.Resolve(t.Context()); err != nil || got != want {
			t.Errorf("%s: %q, %v", r, got, err)
		}
	}
}

func TestARenewedCredentialIsSeen(t *testing.T) {
	file := write(t, "old")
	r := Credential{File: file}
	if got, _ := r.Resolve(t.Context()); got != "old" {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(file, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.Resolve(t.Context()); got != "new" {
		t.Errorf("got %q", got)
	}
}

func TestCredentialsThatCannotBeRead(t *testing.T) {
	t.Setenv("CONFIG_TEST_EMPTY", "")
	for name, c := range map[string]struct {
		r    Credential
		want string
	}{
		"not set":   {Credential{Env: "CONFIG_TEST_NOT_SET"}, "CONFIG_TEST_NOT_SET is not set"},
		"empty":     {Credential{Env: "CONFIG_TEST_EMPTY"}, "env CONFIG_TEST_EMPTY is empty"},
		"no file":   {Credential{File: "/no/such"}, "/no/such"},
		"a folder":  {Credential{File: "/"}, "directory"},
		"large":     {Credential{File: write(t, strings.Repeat("x", maxCredential+1))}, "more than"},
		"no such":   {Credential{Command: []string{"/no/such"}}, "/no/such"},
		"fails":     {Credential{Command: []string{"sh", "-c", "echo hidden; echo hidden >&2; exit 3"}}, "exit status 3"},
		"endless":   {Credential{Command: []string{"yes"}, Timeout: Duration(200 * time.Millisecond)}, "deadline"},
		"reference": {Credential{}, "refers to nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.r.Resolve(t.Context())
			if !rterr.Is(err, rterr.ConfigInvalid, rterr.Timeout) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTheEndOfAProgramEndsItsChildrenToo(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "pid")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Credential{Command: []string{"sh", "-c", "sleep 1000 & echo $! > " + fifo + "; wait"}}.Resolve(ctx)
		ended <- err
	}()
	text, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(grandchild) }()
	cancel()
	if err := <-ended; !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("%v", err)
	}
	// A pidfd can be read once its process has ended.
	poll := []unix.PollFd{{Fd: int32(grandchild), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 30_000); err != nil || n != 1 {
		t.Errorf("the grandchild lives: %d, %v", n, err)
	}
}

func TestACancelledReadIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Credential{Command: []string{"sleep", "100"}}).Resolve(ctx); !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("%v", err)
	}
}

func TestCredentialsOfABackend(t *testing.T) {
	t.Setenv("CONFIG_TEST_KEY", "k1")
	c := &Config{Backends: map[string]Backend{"b": {Credentials: map[string]Credential{"key": {Env: "CONFIG_TEST_KEY"}}}}}
	if got, err := c.ResolveCredentials(t.Context(), "b"); err != nil || len(got) != 1 || got["key"] != "k1" {
		t.Errorf("%v, %v", got, err)
	}
	c.Backends["b"].Credentials["other"] = Credential{Env: "CONFIG_TEST_NOT_SET"}
	_, err := c.ResolveCredentials(t.Context(), "b")
	if e := rterr.From(err); e == nil || e.Field != "backends.b.credentials.other" || !strings.Contains(e.Remedy, "CONFIG_TEST_NOT_SET") {
		t.Errorf("%v", err)
	}
	if got, err := c.ResolveCredentials(t.Context(), "none"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWherePluginsAre(t *testing.T) {
	beside, plugins, path := t.TempDir(), t.TempDir(), t.TempDir()
	t.Setenv("PATH", path)
	put := func(dir string, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, PluginPrefix+"x")
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	c := &Config{PluginDir: plugins, Backends: map[string]Backend{
		"short": {Plugin: "x"}, "command": {Command: []string{"/bin/p", "-v"}}, "address": {Address: "h:1"},
	}}
	want := func(backend, file string) {
		t.Helper()
		argv, err := c.Argv(backend, beside)
		if err != nil || strings.Join(argv, " ") != file {
			t.Errorf("%s: %q, %v; want %q", backend, argv, err, file)
		}
	}
	_, err := c.Argv("short", beside)
	if e := rterr.From(err); e == nil || e.Field != "backends.short.plugin" || !strings.Contains(e.Detail, beside) {
		t.Errorf("%v", err)
	}
	want("short", put(path, 0o755))
	want("short", put(plugins, 0o755))
	put(beside, 0o644) // cannot be run
	want("short", filepath.Join(plugins, PluginPrefix+"x"))
	if err := os.Chmod(filepath.Join(beside, PluginPrefix+"x"), 0o755); err != nil {
		t.Fatal(err)
	}
	want("short", filepath.Join(beside, PluginPrefix+"x"))
	want("command", "/bin/p -v")
	want("address", "")
	if _, err := c.Argv("none", beside); !rterr.Is(err, rterr.NotFound) {
		t.Errorf("%v", err)
	}
}
