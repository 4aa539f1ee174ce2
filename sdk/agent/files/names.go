package files

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxNames is the number of names that Names returns, maxNamesBytes their size.
const maxNames, maxNamesBytes = 200_000, 32 << 20

// Names returns the names in a folder, hidden ones too: folders and links to folders first, with a "/" behind them, then the rest,
// each by its name in lower case. Links that lead nowhere are left out. A relative path begins at the workspace, an empty one is
// it. Of more than 200,000 names the last ones in the folder's own order are left out, which is logged.
func (s *Service) Names(ctx context.Context, path string) ([]string, error) {
	const op = "list"
	if path == "" {
		path = "."
	}
	path, err := s.space.Clean(path)
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	dir, err := s.space.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fsError(op, path, err)
	}
	defer dir.Close()
	var dirs, others []string
	size := 0
	err = eachName(ctx, dir, func(name string) bool {
		if size += len(name); len(dirs)+len(others) == maxNames || size > maxNamesBytes {
			s.log.Warn("a listing was cut", "path", path, "names", len(dirs)+len(others))
			return false
		}
		switch isDir, ok := s.entryKind(int(dir.Fd()), filepath.Join(path, name)); {
		case !ok || isTemp(name): // gone, or leads nowhere
		case isDir:
			dirs = append(dirs, strings.ToValidUTF8(name, "\uFFFD")+"/")
		default:
			others = append(others, strings.ToValidUTF8(name, "\uFFFD"))
		}
		return true
	})
	if err != nil {
		return nil, fsError(op, path, err)
	}
	sortFolded(dirs)
	sortFolded(others)
	return append(dirs, others...), nil
}

func sortFolded(names []string) {
	slices.SortFunc(names, func(a, b string) int {
		if c := strings.Compare(strings.ToLower(a), strings.ToLower(b)); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
}

// entryKind tells whether an entry of an open folder is, or leads to, a folder; ok is false if it leads nowhere.
func (s *Service) entryKind(dir int, path string) (isDir, ok bool) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, filepath.Base(path), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, false
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return st.Mode&unix.S_IFMT == unix.S_IFDIR, true
	}
	f, err := s.space.Open(path, unix.O_PATH, 0)
	if err != nil {
		return false, false
	}
	defer f.Close()
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false, false
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, true
}

// Disk is the space of a file system, in bytes.
type Disk struct{ Total, Used, Free uint64 }

// Disk returns the space of the file system that the root is on. Free is what a process without privileges may use of it.
func (s *Service) Disk() (Disk, error) {
	f, err := s.space.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return Disk{}, fsError("stat", "/", err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return Disk{}, fsError("stat", "/", err)
	}
	unit := uint64(st.Frsize)
	return Disk{Total: st.Blocks * unit, Used: (st.Blocks - st.Bfree) * unit, Free: st.Bavail * unit}, nil
}
