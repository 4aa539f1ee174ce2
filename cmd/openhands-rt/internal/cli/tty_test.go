package cli

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/hosttest"
)

// onTerminal gives a command a terminal as its input and returns the other end.
func onTerminal(t *testing.T, c *command) (user, tty *os.File) {
	t.Helper()
	user, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close(); _ = tty.Close() })
	if err := pty.Setsize(user, &pty.Winsize{Rows: 33, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	c.in = tty
	return user, tty
}

func typeIn(t *testing.T, user *os.File, keys string) {
	t.Helper()
	if _, err := user.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

func TestTTYSizeInputAndRestore(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	c := newCommand(t, h, "exec", "-r", "r-1", "-it", "--", "bash", "--norc", "-c",
		`stty size; read line; echo "got $line"; until [ "$(stty size)" = "44 122" ]; do sleep 0.01; done; echo resized; read line; exit 5`)
	user, tty := onTerminal(t, c)
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	done := c.start()
	c.out.wait(t.Context(), "33 111")
	typeIn(t, user, "hello\r")
	c.out.wait(t.Context(), "got hello")
	if err := pty.Setsize(user, &pty.Winsize{Rows: 44, Cols: 122}); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGWINCH)
	c.out.wait(t.Context(), "resized")
	typeIn(t, user, "\r")
	if r := <-done; r.code != 5 {
		t.Errorf("%+v", r)
	}
	if after, err := term.GetState(int(tty.Fd())); err != nil || *after != *before {
		t.Errorf("the terminal was not restored: %v", err)
	}
}

func TestTTYCtrlCIsAKey(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	c := newCommand(t, h, "exec", "-r", "r-1", "--id", "a-1", "-t", "--", "sh", "-c", `trap "echo caught; exit 8" INT; echo up; while :; do sleep 0.01; done`)
	user, _ := onTerminal(t, c)
	done := c.start()
	c.out.wait(t.Context(), "up")
	typeIn(t, user, "\x03")
	if r := <-done; r.code != 8 || !strings.Contains(r.out, "caught") {
		t.Errorf("%+v", r)
	}
	if levels := h.Levels(t.Context(), "a-1", 0); len(levels) != 0 {
		t.Errorf("interrupted by a call: %v", levels)
	}
}

func TestTTYDetachLeavesItRunning(t *testing.T) {
	h := hosttest.New(t)
	h.Add("r-1", "")
	c := newCommand(t, h, "exec", "-r", "r-1", "--id", "a-1", "-t", "--", "cat")
	user, _ := onTerminal(t, c)
	done := c.start()
	typeIn(t, user, "one\r")
	c.out.wait(t.Context(), "one\r\none")
	typeIn(t, user, "\x10\x11")
	if r := <-done; r.code != 0 || !strings.Contains(r.err, "openhands-rt actions attach a-1") {
		t.Errorf("%+v", r)
	}
	run(t, h, "actions", "interrupt", "--level", "kill", "a-1").want(t, 0, "a-1\n", "")
	if r := run(t, h, "actions", "attach", "a-1"); r.code != 137 {
		t.Errorf("%+v", r)
	}
}

func TestShellNeedsATerminal(t *testing.T) {
	h := hosttest.New(t)
	if r := run(t, h, "shell", "--new"); r.code != 2 || len(h.Stopped()) != 0 {
		t.Errorf("%+v", r)
	}
	c := newCommand(t, h, "shell", "--new")
	user, _ := onTerminal(t, c)
	done := c.start()
	typeIn(t, user, "exit 11\r")
	if r := <-done; r.code != 11 || len(h.Stopped()) != 1 {
		t.Errorf("%+v, stopped %v", r, h.Stopped())
	}
}
