// Package space is where the paths of a sandbox's files are resolved: the process's own view, or a root that nothing leaves,
// neither by a name nor by a link on the way (openat2).
//
// What opens files of the sandbox imports it: sdk/agent/files and the kinds of action that read and write files.
package space

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// MaxPath is the longest path, as the kernel has it, in bytes with the NUL at its end.
const MaxPath = 4096

// raceRetries is how often a path is resolved again when it was renamed meanwhile.
const raceRetries = 16

// Space resolves paths. All methods may be called from any goroutine. Errors of the operating system are *fs.PathError.
type Space struct {
	// root is nil for the process's own view.
	root      *os.File
	workspace string
}

// New returns the space under root, which is opened and held until Close; empty means the process's own view. Relative paths begin
// at workspace. Errors: InvalidArgument for a root that cannot be opened, Unsupported where the kernel cannot confine.
func New(root, workspace string) (*Space, error) {
	s := &Space{workspace: workspace}
	if root == "" {
		return s, nil
	}
	f, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, rterr.Invalid("open space", "root", "%v", err).WithCause(err)
	}
	s.root = f
	probe, err := s.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		_ = f.Close()
		return nil, rterr.New(rterr.Unsupported, "open space", "no confinement to a root: openat2: %v", err).WithCause(err)
	}
	return s, probe.Close()
}

// Close releases the root.
func (s *Space) Close() error {
	if s.root == nil {
		return nil
	}
	return s.root.Close()
}

// Clean returns the absolute path that p means. Errors are InvalidArgument, naming the field path.
func (s *Space) Clean(p string) (string, error) {
	switch {
	case p == "":
		return "", rterr.Invalid("", "path", "is required")
	case strings.ContainsRune(p, 0):
		return "", rterr.Invalid("", "path", "has a NUL byte")
	case len(p) >= MaxPath:
		return "", rterr.Invalid("", "path", "has %d bytes, at most %d are possible", len(p), MaxPath-1)
	case filepath.IsAbs(p):
		return filepath.Clean(p), nil
	default:
		return filepath.Join(s.workspace, p), nil
	}
}

// Open opens an absolute path; links are followed unless flags say otherwise. mode is for O_CREAT.
func (s *Space) Open(path string, flags int, mode uint32) (*os.File, error) {
	for range raceRetries {
		fd, err := s.openOnce(path, flags|unix.O_CLOEXEC, mode)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: unix.EBUSY}
}

func (s *Space) openOnce(path string, flags int, mode uint32) (int, error) {
	if s.root == nil {
		return unix.Open(path, flags, mode)
	}
	return unix.Openat2(int(s.root.Fd()), path, &unix.OpenHow{
		Flags: uint64(flags), Mode: uint64(mode), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// Parent opens the folder of a clean path and returns the last element, which is not resolved.
func (s *Space) Parent(path string) (*os.File, string, error) {
	dir, err := s.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if path == "/" {
		return dir, ".", err
	}
	return dir, filepath.Base(path), err
}

// DirRoot opens a folder for work that never leaves it.
func (s *Space) DirRoot(path string) (*os.Root, error) {
	if s.root == nil {
		return os.OpenRoot(path)
	}
	dir, err := s.Open(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return RootOf(dir)
}

// RootOf returns an open folder as a root; dir stays the caller's. It goes through the descriptor, because a root is opened by name only.
func RootOf(dir *os.File) (*os.Root, error) {
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
}

// MakeDirs makes a folder and its parents, with mode 0755 less the umask.
func (s *Space) MakeDirs(path string) error {
	if dir, err := s.Open(path, unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
		return dir.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if path == "/" {
		return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOENT}
	}
	if err := s.MakeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	dir, name, err := s.Parent(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Mkdirat(int(dir.Fd()), name, 0o755)
	if errors.Is(err, unix.EEXIST) { // made meanwhile, or a link that leads nowhere
		again, openErr := s.Open(path, unix.O_PATH|unix.O_DIRECTORY, 0)
		if openErr != nil {
			return &fs.PathError{Op: "mkdir", Path: path, Err: err}
		}
		return again.Close()
	}
	return PathError("mkdir", path, err)
}

// PathError is err with the operation and the path; nil for nil.
func PathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
