package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// lockFile is the name of the file whose lock says who owns the folder.
const lockFile = "lock"

// Lock is the ownership of a folder by this process. It ends with the process, however that ends.
type Lock struct{ file *os.File }

// LockDir takes a folder for this process, making the folder if it is missing. It does not wait: a folder that another process
// (or another Lock of this one) holds is an error of rterr.Unavailable that names the pid.
func LockDir(dir string) (*Lock, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, "lock "+dir, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = file.Close() }() // nothing was written
		return nil, heldBy(dir, file, err)
	}
	if err := writePid(file); err != nil {
		return nil, rterr.Wrap(rterr.Unavailable, "lock "+dir, errors.Join(err, file.Close()))
	}
	return &Lock{file}, nil
}

func heldBy(dir string, file *os.File, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return rterr.Wrap(rterr.Unavailable, "lock "+dir, err)
	}
	raw, _ := io.ReadAll(io.LimitReader(file, 32)) // without the pid the error still stands
	pid := strings.TrimSpace(string(raw))
	if pid == "" {
		pid = "unknown"
	}
	e := rterr.New(rterr.Unavailable, "lock "+dir, "another daemon has it, pid %s", pid).
		With("pid", pid).With("folder", dir).
		WithRemedy(fmt.Sprintf("stop the daemon with pid %s, or give this one another data_dir", pid))
	e.Retryable = false
	return e
}

func writePid(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(fmt.Sprintf("%d\n", os.Getpid())), 0)
	return err
}

// Release gives the folder up.
func (l *Lock) Release() error { return l.file.Close() }
