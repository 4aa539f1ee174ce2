package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// passwdFile is where names of users are, on the machine and in a root.
const passwdFile = "/etc/passwd"

// CheckUsername refuses what RootSpec.Username cannot be: no user's name, or the name of another user of this machine, who would be
// taken for somebody else inside.
func CheckUsername(name string) error {
	if !isUserName(name) {
		return fmt.Errorf("%q is no name of a user: up to 32 of a-z, 0-9, _ and -, with no digit first", name)
	}
	machine, err := os.ReadFile(passwdFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(machine)) {
		fields := strings.SplitN(line, ":", 4)
		if len(fields) == 4 && fields[0] == name && fields[2] != strconv.Itoa(os.Geteuid()) {
			return fmt.Errorf("%q is another user of this machine, with uid %s", name, fields[2])
		}
	}
	return nil
}

// isUserName is without a regular expression, whose package would cost every agent memory.
func isUserName(name string) bool {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 32
}

// nameUser gives this user another name in the new root, by an /etc/passwd of the root's own. The machine's is not touched, and not
// reached from inside either.
func (s RootSpec) nameUser() error {
	machine, err := os.ReadFile(passwdFile)
	if s.Username == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// A file system of its own, for the new root's cannot be bound. It goes as soon as its one file is where it belongs.
	folder := filepath.Join(s.Scratch, ".users")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	if err := mount("tmpfs", folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return err
	}
	source := filepath.Join(folder, "passwd")
	if err := os.WriteFile(source, renamed(machine, s.Username, os.Geteuid(), os.Getegid()), 0o600); err != nil {
		return err
	}
	if err := os.Chmod(source, 0o644); err != nil { //nolint:gosec // as /etc/passwd is; the umask took it away
		return err
	}
	if err := mount(source, filepath.Join(s.Scratch, passwdFile), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("unmount "+folder, err)
	}
	return os.Remove(folder)
}

// renamed is a passwd file in which name comes first for a uid; the names that the uid had stay.
func renamed(passwd []byte, name string, uid, gid int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s:x:%d:%d::%s:/bin/bash\n", name, uid, gid, HomePath)
	for line := range strings.Lines(string(passwd)) {
		if !strings.HasPrefix(line, name+":") {
			b.WriteString(line)
		}
	}
	return b.Bytes()
}
