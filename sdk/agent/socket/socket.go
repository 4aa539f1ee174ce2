// Package socket opens unix sockets for the sandbox agent: paths of any length, mode 0600 from the first moment, and a name that
// is replaced and removed only by its owner. The agent's server listens with it, its client dials with it.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	// maxDirect is the longest path that is handed to the kernel as it is: sun_path holds 107 bytes and a NUL.
	maxDirect = 100
	// MaxName is the longest last element of a path: what is left beside "/proc/self/fd/NNNNNNNNNN/" and a suffix of ours.
	MaxName = 64
	// probeTimeout bounds the question whether somebody listens at a name already; a live one answers from its backlog.
	probeTimeout = 2 * time.Second
)

// Dial connects to the socket at path. Blocks until connected, refused, or ctx is done. Errors are those of package net.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	if len(path) <= maxDirect {
		return d.DialContext(ctx, "unix", path)
	}
	dir, short, err := shorten(path)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: err}
	}
	defer dir.Close()
	return d.DialContext(ctx, "unix", short)
}

// Check refuses a path that can never be a socket's.
func Check(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	if name := filepath.Base(path); len(name) > MaxName {
		return fmt.Errorf("its last element has %d bytes, at most %d can be had", len(name), MaxName)
	}
	return nil
}

// Listen opens a socket at path with mode 0600; the folder must be there. A name that nobody answers at is replaced, one where
// somebody listens is AlreadyExists. Closing the listener removes the name if it still is this listener's.
func Listen(path string) (net.Listener, error) {
	op := "listen at " + path
	if err := Check(path); err != nil {
		return nil, rterr.Invalid(op, "socket", "%v", err)
	}
	if err := checkFree(path); err != nil {
		return nil, rterr.Wrap(rterr.AlreadyExists, op, err)
	}
	dir, short, err := shorten(path)
	if err != nil {
		return nil, rterr.Wrap(rterr.Network, op, err)
	}
	ln, err := bind(dir, short)
	if err != nil {
		_ = dir.Close()
		return nil, rterr.Wrap(rterr.Network, op, err)
	}
	ln.path = path
	return ln, nil
}

// shorten opens the folder of path and returns a name for the socket through that descriptor.
func shorten(path string) (*os.File, string, error) {
	if err := Check(path); err != nil {
		return nil, "", err
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Dir(path)), "/proc/self/fd/" + strconv.Itoa(fd) + "/" + filepath.Base(path), nil
}

func checkFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("something that is no socket has that name")
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	conn, err := Dial(ctx, path)
	if err == nil {
		_ = conn.Close()
		return errors.New("somebody listens there")
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// bind listens under a name of its own and moves it into place once its mode is right, so that nobody connects before.
func bind(dir *os.File, short string) (*listener, error) {
	temp := short + ".new" + strconv.Itoa(os.Getpid())
	_ = os.Remove(temp) // left by a process that had our pid and died here
	inner, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	inner.SetUnlinkOnClose(false)
	err = os.Chmod(temp, 0o600)
	var st unix.Stat_t
	if err == nil {
		err = unix.Lstat(temp, &st)
	}
	if err == nil {
		err = os.Rename(temp, short)
	}
	if err != nil {
		_ = os.Remove(temp)
		_ = inner.Close()
		return nil, err
	}
	return &listener{UnixListener: inner, dir: dir, name: filepath.Base(short), dev: uint64(st.Dev), ino: st.Ino}, nil
}

// listener holds the folder open until it is closed, so that the name is removed from that very folder.
type listener struct {
	*net.UnixListener
	dir  *os.File
	path string
	name string
	dev  uint64
	ino  uint64
	once sync.Once
	err  error
}

// Addr returns the path that was asked for.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the name. Safe to call twice.
func (l *listener) Close() error {
	l.once.Do(func() {
		var st unix.Stat_t
		fd := int(l.dir.Fd())
		err := unix.Fstatat(fd, l.name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && uint64(st.Dev) == l.dev && st.Ino == l.ino {
			l.err = unix.Unlinkat(fd, l.name, 0)
		}
		l.err = errors.Join(l.err, l.UnixListener.Close(), l.dir.Close())
	})
	return l.err
}
