// Package terminal holds what a command needs of the terminal, and of the input, that it was started with.
//
// It belongs to the command line; nothing else imports it.
package terminal

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Reader reads a file, and lets go of it when it is cancelled: unlike a plain Read on a terminal or a pipe, which would stay
// for ever and take away what the next program should get. Read is not for concurrent use; Cancel is.
type Reader struct {
	file *os.File
	wake [2]int

	mu     sync.Mutex
	closed bool
}

// ErrCancelled is what Read returns after Cancel.
var ErrCancelled = errors.New("reading was cancelled")

// NewReader returns a reader of f, which stays the caller's. Close it when its last Read has returned.
func NewReader(f *os.File) (*Reader, error) {
	r := &Reader{file: f}
	if err := unix.Pipe2(r.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	return r, nil
}

// Read waits until there is something to read, the end, or Cancel.
func (r *Reader) Read(p []byte) (int, error) {
	fds := []unix.PollFd{
		{Fd: int32(r.file.Fd()), Events: unix.POLLIN},
		{Fd: int32(r.wake[0]), Events: unix.POLLIN},
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
		if fds[1].Revents != 0 {
			return 0, ErrCancelled
		}
		if fds[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(int(r.file.Fd()), p)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.EIO):
			return 0, io.EOF // the other end of a terminal is gone
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Cancel ends a Read that waits, and all later ones. Safe to call twice and after Close.
func (r *Reader) Cancel() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		_, _ = unix.Write(r.wake[1], []byte{0}) // a full pipe is as readable as one byte
	}
}

// Close gives up what the reader itself holds.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	return errors.Join(unix.Close(r.wake[0]), unix.Close(r.wake[1]))
}
