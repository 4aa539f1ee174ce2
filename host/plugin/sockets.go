package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// perLaunch is the room that go-plugin's folder of one launch takes after the base: "/plugin-dir" and a random number.
const perLaunch = len("/plugin-dir") + 10

// socketBase returns a folder of mode 0700 that only this user owns, under which a socket's path is short enough: dir, or a new
// one in the system's temporary folder if dir is too long. remove deletes the latter.
func socketBase(dir string) (base string, remove func(), err error) {
	if len(dir)+perLaunch > maxSocketDir {
		base, err := os.MkdirTemp("/tmp", "ohrt-")
		if err != nil {
			return "", nil, rterr.Wrap(rterr.Internal, "make a folder for sockets", err)
		}
		return base, func() { _ = os.RemoveAll(base) }, nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, rterr.Wrap(rterr.ConfigInvalid, "find the folder for sockets", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, rterr.Wrap(rterr.ConfigInvalid, "make the folder for sockets", err)
	}
	if err := checkPrivate(dir); err != nil {
		return "", nil, rterr.Wrap(rterr.ConfigInvalid, "use the folder for sockets", err)
	}
	return dir, func() {}, nil
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
