package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// awaitParent blocks until the process that started this one has ended (nil), or until ctx ends.
func awaitParent(ctx context.Context) error {
	parent := os.Getppid()
	if parent <= 1 {
		return fmt.Errorf("the parent is process %d", parent)
	}
	fd, err := unix.PidfdOpen(parent, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	// A non-blocking descriptor is watched by the runtime's poller: no thread waits here.
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	if os.Getppid() != parent {
		return nil // it ended before the descriptor was there, which may be that of another process
	}
	defer context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })()
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(set, 0)
		return err == nil && n == 1
	})
}
