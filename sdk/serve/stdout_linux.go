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
	if err := unix.Dup3(2, 1, 0); err != nil {
		return nil, os.NewSyscallError("dup3", err)
	}
	return os.NewFile(uintptr(fd), "stdout"), nil
}
