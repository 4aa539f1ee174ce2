package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// snapshot returns every process of the machine that can be seen.
func snapshot() map[int]stat {
	all := map[int]stat{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return all
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil {
			all[pid] = st
		}
	}
	return all
}

// openProcess returns a descriptor of the very process that began at start.
func openProcess(pid int, start uint64) (int, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	if have, err := StartTime(pid); err != nil || have != start {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// sendSignal signals the very process that began at start, and reports whether it was there.
func sendSignal(pid int, start uint64, sig syscall.Signal) bool {
	fd, err := openProcess(pid, start)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, sig, nil, 0) == nil
}

// SignalProcess signals the very process that began at start (StartTime). No error if it is gone.
func SignalProcess(pid int, start uint64, sig syscall.Signal) error {
	fd, err := openProcess(pid, start)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// WaitProcess blocks until the very process that began at start has ended, or ctx is done, whose error it then returns. It need
// not be a child. Returns at once if there is no such process.
func WaitProcess(ctx context.Context, pid int, start uint64) error {
	fd, err := openProcess(pid, start)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	// Non-blocking, so that the netpoller takes it: no thread waits, and the deadline wakes the reader.
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }) // A closed file needs no waking.
	defer stop()
	err = raw.Read(func(fd uintptr) bool { return readable(int(fd)) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	return nil
}

func readable(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// waitGone waits until all of the processes have ended, or the time is up.
func waitGone(all []stat, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, s := range all {
		if err := WaitProcess(ctx, s.pid, s.start); err != nil {
			return // The next round looks again.
		}
	}
}
