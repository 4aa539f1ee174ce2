package files

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

// space is where paths are resolved: the process's own view, or a root that nothing leaves.
type space struct {
	// root is nil for the process's own view.
	root      *os.File
	workspace string
}

func newSpace(root, workspace string) (*space, error) {
	s := &space{workspace: workspace}
	if root == "" {
		return s, nil
	}
	f, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, rterr.Invalid("new file service", "root", "%v", err).WithCause(err)
	}
	s.root = f
	probe, err := s.open("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		_ = f.Close()
		return nil, rterr.New(rterr.Unsupported, "new file service", "no confinement to a root: openat2: %v", err).WithCause(err)
	}
	return s, probe.Close()
}

func (s *space) close() error {
	if s.root == nil {
		return nil
	}
	return s.root.Close()
}

// clean returns the absolute path that p means.
func (s *space) clean(p string) (string, error) {
	switch {
	case p == "":
		return "", rterr.Invalid("", "path", "is required")
	case strings.ContainsRune(p, 0):
		return "", rterr.Invalid("", "path", "has a NUL byte")
	case len(p) >= maxPath:
		return "", rterr.Invalid("", "path", "has %d bytes, at most %d are possible", len(p), maxPath-1)
	case filepath.IsAbs(p):
		return filepath.Clean(p), nil
	default:
		return filepath.Join(s.workspace, p), nil
	}
}

// open opens a clean path; links are followed unless flags say otherwise.
func (s *space) open(path string, flags int) (*os.File, error) {
	for range raceRetries {
		fd, err := s.openOnce(path, flags|unix.O_CLOEXEC)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: unix.EBUSY}
}

func (s *space) openOnce(path string, flags int) (int, error) {
	if s.root == nil {
		return unix.Open(path, flags, 0)
	}
	return unix.Openat2(int(s.root.Fd()), path, &unix.OpenHow{
		Flags: uint64(flags), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// parent opens the folder of a clean path and returns the last element, which is not resolved.
func (s *space) parent(path string) (*os.File, string, error) {
	dir, err := s.open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY)
	if path == "/" {
		return dir, ".", err
	}
	return dir, filepath.Base(path), err
}

// dirRoot opens a folder for work that never leaves it.
func (s *space) dirRoot(path string) (*os.Root, error) {
	if s.root == nil {
		return os.OpenRoot(path)
	}
	dir, err := s.open(path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return rootOf(dir)
}

// rootOf goes through the descriptor, because a root is opened by name only.
func rootOf(dir *os.File) (*os.Root, error) {
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
}

// makeDirs makes a folder and its parents.
func (s *space) makeDirs(path string) error {
	if dir, err := s.open(path, unix.O_PATH|unix.O_DIRECTORY); err == nil {
		return dir.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if path == "/" {
		return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOENT}
	}
	if err := s.makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	dir, name, err := s.parent(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Mkdirat(int(dir.Fd()), name, 0o755)
	if errors.Is(err, unix.EEXIST) { // made meanwhile, or a link that leads nowhere
		again, openErr := s.open(path, unix.O_PATH|unix.O_DIRECTORY)
		if openErr != nil {
			return &fs.PathError{Op: "mkdir", Path: path, Err: err}
		}
		return again.Close()
	}
	return pathError("mkdir", path, err)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
