package shell

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Press does what the terminal does with a key that its present mode makes a signal of: the key is shown, what was typed before and not
// read is dropped, and the foreground gets the signal, which has reached everybody when the call returns. 0: the key is none of those,
// and nothing was done.
func (s *Session) Press(key []byte) (sig unix.Signal, err error) {
	err = control(s.slave, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil || t.Lflag&unix.ISIG == 0 || len(key) != 1 || key[0] == 0 {
			return err
		}
		switch key[0] {
		case t.Cc[unix.VINTR]:
			sig = unix.SIGINT
		case t.Cc[unix.VQUIT]:
			sig = unix.SIGQUIT
		case t.Cc[unix.VSUSP]:
			sig = unix.SIGTSTP
		default:
			return nil
		}
		return show(fd, t, key[0])
	})
	if err != nil || sig == 0 {
		return 0, err
	}
	if sig == unix.SIGINT && s.disturb() {
		return sig, nil
	}
	return sig, control(s.master, func(fd int) error { return unix.IoctlSetInt(fd, unix.TIOCSIG, int(sig)) })
}

// show drops typed input and echoes a control character, each if the terminal's mode says so. A stopped terminal shows nothing.
func show(fd int, t *unix.Termios, key byte) error {
	var err error
	if t.Lflag&unix.NOFLSH == 0 {
		err = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
	}
	const echo = unix.ECHO | unix.ECHOCTL
	if err == nil && t.Lflag&echo == echo {
		_, err = unix.Write(fd, []byte{'^', key ^ 0x40})
	}
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}
