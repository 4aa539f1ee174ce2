package shell

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Foreground is what had the terminal when it was looked at.
type Foreground struct {
	// Group is the process group, 0 if it is not known.
	Group int
	// Shell: the group is the shell's own.
	Shell bool
	// Copy: a child of the shell in the group was still the shell's program: a subshell, or a child that is yet to become the
	// program that it is to run. Such a child may drop a signal.
	Copy bool
}

// Foreground looks at what has the terminal.
func (s *Session) Foreground() Foreground {
	var f Foreground
	err := control(s.master, func(fd int) error {
		var err error
		f.Group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	if err != nil {
		return Foreground{}
	}
	f.Shell = f.Group == s.Pid()
	f.Copy = !f.Shell && f.Group > 0 && s.copyIn(f.Group)
	return f
}

// copyIn reports whether a child of the shell in that group is a Copy.
func (s *Session) copyIn(group int) bool {
	pid := strconv.Itoa(s.Pid())
	children, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil { // A kernel without it: the group's leader will do.
		children = strconv.AppendInt(nil, int64(group), 10)
	}
	for _, child := range bytes.Fields(children) {
		n, err := strconv.Atoi(string(child))
		if err != nil {
			continue
		}
		if in, err := unix.Getpgid(n); err == nil && in == group && s.Copy(n) {
			return true
		}
	}
	return false
}

// Copy reports whether a process has the shell's own command line: the shell, a subshell, or a child that is yet to become the
// program that it is to run. One that cannot be looked at has ended.
func (s *Session) Copy(pid int) bool {
	own, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/cmdline")
	if err != nil {
		return false
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && bytes.Equal(line, own)
}

// Interrupt sends SIGINT to what is in the foreground, in any mode of the terminal. Unlike a typed Ctrl-C it has reached
// everybody when the call returns. A command that the shell has not been given yet is over, with the status of an interrupt.
func (s *Session) Interrupt() error {
	if s.disturb() {
		return nil
	}
	err := control(s.master, func(fd int) error { return unix.IoctlSetInt(fd, unix.TIOCSIG, int(unix.SIGINT)) })
	if err != nil {
		return fmt.Errorf("interrupt foreground: %w", err)
	}
	return nil
}

// InterruptShell sends SIGINT to the shell itself, whatever is in the foreground. It fails only if the shell has ended.
func (s *Session) InterruptShell() {
	if !s.disturb() {
		_ = syscall.Kill(s.Pid(), syscall.SIGINT) // As said above.
	}
}

// Withdraw ends a command that the shell has not been given yet, with the status of an interrupt, and reports whether there was
// one.
func (s *Session) Withdraw() bool {
	s.run.Lock()
	defer s.run.Unlock()
	s.run.withdrawn = s.run.pending != nil
	return s.run.withdrawn
}

// disturb notes that a signal is on its way to the shell; held back reports that it need not be sent.
func (s *Session) disturb() (heldBack bool) {
	if s.Withdraw() {
		return true
	}
	s.run.Lock()
	defer s.run.Unlock()
	s.run.disturbed = true
	return false
}
