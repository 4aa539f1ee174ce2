package shell

import (
	"errors"
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// OpenPair returns both ends of a new PTY. The master has deadlines, and closing it ends a read: pty.Open leaves it blocking.
func OpenPair() (master, slave *os.File, err error) {
	blocking, slave, err := pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	defer func() { _ = blocking.Close() }() // Nothing was read from it.
	var fd int
	err = control(blocking, func(old int) error {
		var err error
		if fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.SetNonblock(fd, true)
	})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open terminal: %w", err), slave.Close())
	}
	return os.NewFile(uintptr(fd), "terminal"), slave, nil
}

// openTerminal returns both ends of a new PTY. Output bytes pass it unchanged: a newline stays one byte.
func openTerminal(rows, cols uint16) (master, slave *os.File, err error) {
	master, slave, err = OpenPair()
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(
		control(slave, func(fd int) error {
			t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
			if err != nil {
				return err
			}
			t.Oflag &^= unix.ONLCR
			return unix.IoctlSetTermios(fd, unix.TCSETS, t)
		}),
		setSize(master, rows, cols),
	)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("set up terminal: %w", err), master.Close(), slave.Close())
	}
	return master, slave, nil
}

// openPeer opens the other end of a master, without a path and without ever blocking.
func openPeer(master *os.File) (*os.File, error) {
	var fd int
	err := control(master, func(m int) error {
		var err error
		fd, err = ioctlOpen(m, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open terminal's other end: %w", err)
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

// ioctlOpen is an ioctl that returns a descriptor; x/sys/unix has none for it.
func ioctlOpen(fd int, request, flags uintptr) (int, error) {
	got, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, flags)
	if errno != 0 {
		return -1, errno
	}
	return int(got), nil
}

func setSize(master *os.File, rows, cols uint16) error {
	return control(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

// control runs a system call on f without taking it out of the poller, as Fd would.
func control(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if err := raw.Control(func(fd uintptr) { callErr = call(int(fd)) }); err != nil {
		return err
	}
	return callErr
}
