package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	// perBackend is the room of a backend's folder: a slash and a digest of its name, which may be long.
	perBackend = 1 + 8
	// perLaunch is the room that go-plugin's folder of one launch takes in it: "/plugin-dir" and a random number.
	perLaunch = len("/plugin-dir") + 10
)

// socketBase returns an empty folder of mode 0700 that only this user owns, in which a socket's path is short enough: a
// backend's own in dir, or in a folder under /tmp if dir is too long. remove deletes it. What an earlier host left there when it
// was killed is gone.
func socketBase(dir, backend string) (base string, remove func(), err error) {
	const op = "make the folder for sockets"
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, rterr.Wrap(rterr.ConfigInvalid, op, err)
	}
	given := dir
	if len(dir)+perBackend+perLaunch > maxSocketDir {
		// Always the same one for dir, so that it is found again after a crash.
		dir = "/tmp/ohrt-" + digestOf(dir)
	}
	base = filepath.Join(dir, digestOf(backend))
	for _, d := range []string{dir, base} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", nil, rterr.Wrap(rterr.ConfigInvalid, op, err)
		}
		if err := checkPrivate(d); err != nil {
			return "", nil, rterr.Wrap(rterr.ConfigInvalid, op, err)
		}
	}
	if err := empty(base); err != nil {
		return "", nil, rterr.Wrap(rterr.ConfigInvalid, op, err)
	}
	return base, func() {
		_ = os.RemoveAll(base)
		if dir != given {
			_ = os.Remove(dir) // stays as long as another backend has its folder in it
		}
	}, nil
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}

func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", dir)
	case ok && int(owner.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d", dir, owner.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %#o), want 0700", dir, info.Mode().Perm())
	}
	return nil
}
