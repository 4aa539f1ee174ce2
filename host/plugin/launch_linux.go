package plugin

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// prepare makes cmd run the very file that was checked, in a session of its own, and die with this process.
func prepare(cmd *exec.Cmd, exe *executable) {
	cmd.Path = "/proc/self/fd/" + strconv.FormatUint(uint64(exe.file.Fd()), 10)
	if exe.script {
		// The interpreter opens the script by its path once more, so the descriptor must survive the exec.
		cmd.ExtraFiles = []*os.File{exe.file}
		cmd.Path = "/proc/self/fd/3"
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// limitOpenFiles sets the hard limit of a process that was just started.
func limitOpenFiles(pid int, n uint64) error {
	return os.NewSyscallError("prlimit", unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}, nil))
}

// awaitExit blocks until the process has ended and leaves it to be reaped: until then its id, and that of its group, stays its
// own.
func awaitExit(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("waitid", err)
		}
	}
}
