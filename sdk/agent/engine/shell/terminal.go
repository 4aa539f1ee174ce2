package shell

import (
	"bytes"
	"crypto/rand"
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

// newBarrier returns bytes that no output has by chance. Digits alone: no mode of a terminal changes them on their way out.
func newBarrier() []byte {
	var raw [28]byte
	rand.Read(raw[:]) //nolint:errcheck // crypto/rand.Read never fails.
	for i, b := range raw {
		raw[i] = '0' + b%10
	}
	return raw[:]
}

// filter takes the barriers out of the terminal's output and tells where they were.
type filter struct {
	want []byte
	// held is the end of what has arrived, as far as it may be the beginning of want.
	held []byte
}

// pass hands on p without the barrier; passed reports whether the barrier was in it, and then rest is what came after it.
func (f *filter) pass(p []byte, out func([]byte)) (rest []byte, passed bool) {
	if f.want == nil {
		emit(p, out)
		return nil, false
	}
	if len(f.held) > 0 {
		p = append(f.held, p...)
		f.held = nil
	}
	if at := bytes.Index(p, f.want); at >= 0 {
		emit(p[:at], out)
		rest = p[at+len(f.want):]
		f.want = nil
		return rest, true
	}
	keep := overlap(p, f.want)
	emit(p[:len(p)-keep], out)
	f.held = append([]byte(nil), p[len(p)-keep:]...)
	return nil, false
}

// give returns what is held back, and gives up waiting for the barrier.
func (f *filter) give(out func([]byte)) {
	emit(f.held, out)
	f.held, f.want = nil, nil
}

func emit(p []byte, out func([]byte)) {
	if len(p) > 0 {
		out(p)
	}
}

// overlap is the length of the longest end of p that is a beginning of want.
func overlap(p, want []byte) int {
	for n := min(len(p), len(want)-1); n > 0; n-- {
		if bytes.HasPrefix(want, p[len(p)-n:]) {
			return n
		}
	}
	return 0
}
