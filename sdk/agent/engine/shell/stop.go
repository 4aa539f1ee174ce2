package shell

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stop stops the shell and waits until it stands still or has ended, for so long at most: false then, and when that cannot be
// found out. Continue takes it back in any case.
func (s *Session) Stop(limit time.Duration) bool {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGCHLD)
	defer signal.Stop(changed)
	if err := syscall.Kill(s.Pid(), syscall.SIGSTOP); err != nil {
		return true // It has ended.
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		if still, err := standsStill(s.Pid()); still || err != nil {
			return still
		}
		select {
		case <-changed:
		case <-late.C:
			return false
		}
	}
}

// Continue lets a stopped shell go on. It fails only if the shell has ended.
func (s *Session) Continue() { _ = syscall.Kill(s.Pid(), syscall.SIGCONT) }

// standsStill looks at a child without taking its state away from who waits for it. One that has been waited for has ended.
func standsStill(pid int) (bool, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		switch err {
		case unix.EINTR:
		case unix.ECHILD:
			return true, nil
		case nil:
			return info.Signo != 0, nil
		default:
			return false, err
		}
	}
}
