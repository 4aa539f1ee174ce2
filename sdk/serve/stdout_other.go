//go:build !linux

package serve

import (
	"os"

	"golang.org/x/sys/unix"
)

// takeStdout keeps the real standard output for us and points fd 1 to stderr, for everything in this process that prints.
func takeStdout() (*os.File, error) {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.Dup2(2, 1); err != nil {
		return nil, os.NewSyscallError("dup2", err)
	}
	return os.NewFile(uintptr(fd), "stdout"), nil
}
