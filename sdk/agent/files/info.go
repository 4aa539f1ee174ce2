package files

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// StatFile implements agent.v1 StatFile.
func (s *Service) StatFile(req *agentv1.StatFileRequest) (*agentv1.StatFileResponse, error) {
	path, err := s.space.Clean(req.GetPath())
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, "stat file", err)
	}
	info, err := s.stat(path, req.GetNoFollow())
	if err != nil {
		return nil, fsError("stat", path, err)
	}
	return &agentv1.StatFileResponse{Info: info}, nil
}

func (s *Service) stat(path string, noFollow bool) (*agentv1.FileInfo, error) {
	if noFollow {
		dir, name, err := s.space.Parent(path)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		return statAt(dir, name, path)
	}
	f, err := s.space.Open(path, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, space.PathError("stat", path, err)
	}
	return infoOf(path, &st), nil
}

// statAt describes an entry of an open folder without following it.
func statAt(dir *os.File, name, path string) (*agentv1.FileInfo, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, space.PathError("stat", path, err)
	}
	info := infoOf(path, &st)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		buf := make([]byte, space.MaxPath)
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
		if err != nil {
			return nil, space.PathError("readlink", path, err)
		}
		info.LinkTarget = strings.ToValidUTF8(string(buf[:n]), "\uFFFD")
	}
	return info, nil
}

func infoOf(path string, st *unix.Stat_t) *agentv1.FileInfo {
	return &agentv1.FileInfo{
		// A protobuf string is UTF-8; a name that is not cannot be asked for over it either.
		Path: strings.ToValidUTF8(path, "\uFFFD"), Name: strings.ToValidUTF8(filepath.Base(path), "\uFFFD"),
		Size: uint64(max(st.Size, 0)), Mode: st.Mode & 0o7777, Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR,
		ModifiedAt: &timestamppb.Timestamp{Seconds: st.Mtim.Sec, Nanos: int32(st.Mtim.Nsec)},
	}
}

// ListFiles implements agent.v1 ListFiles. Of a folder with too many entries it returns those that come first in the folder.
func (s *Service) ListFiles(ctx context.Context, req *agentv1.ListFilesRequest) (*agentv1.ListFilesResponse, error) {
	path, err := s.space.Clean(req.GetPath())
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, "list files", err)
	}
	dir, err := s.space.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fsError("list", path, err)
	}
	defer dir.Close()
	out := &agentv1.ListFilesResponse{}
	size := 0
	err = eachName(ctx, dir, func(name string) bool {
		if isTemp(name) {
			return true
		}
		size += 2*len(name) + len(path) + 64
		if len(out.Files) == maxListed || size > maxListedBytes {
			out.Truncated = true
			return false
		}
		if info, err := statAt(dir, name, filepath.Join(path, name)); err == nil { // else it has gone meanwhile
			out.Files = append(out.Files, info)
		}
		return true
	})
	if err != nil {
		return nil, fsError("list", path, err)
	}
	slices.SortFunc(out.Files, func(a, b *agentv1.FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// eachName calls visit for every entry of dir, in the folder's own order, until it returns false.
func eachName(ctx context.Context, dir *os.File, visit func(name string) bool) error {
	for {
		names, err := dir.Readdirnames(dirBatch)
		for _, name := range names {
			if !visit(name) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// MakeDir implements agent.v1 MakeDir.
func (s *Service) MakeDir(req *agentv1.MakeDirRequest) (*agentv1.MakeDirResponse, error) {
	path, err := s.space.Clean(req.GetPath())
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, "make folder", err)
	}
	if err := s.space.MakeDirs(path); err != nil {
		return nil, fsError("make folder", path, err)
	}
	return &agentv1.MakeDirResponse{}, nil
}

// RemoveFile implements agent.v1 RemoveFile. Links are removed, not followed.
func (s *Service) RemoveFile(_ context.Context, req *agentv1.RemoveFileRequest) (*agentv1.RemoveFileResponse, error) {
	path, err := s.space.Clean(req.GetPath())
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, "remove file", err)
	}
	if path == "/" {
		return nil, rterr.Invalid("remove file", "path", "the root cannot be removed")
	}
	if err := s.remove(path, req.GetRecursive()); err != nil {
		return nil, fsError("remove", path, err)
	}
	return &agentv1.RemoveFileResponse{}, nil
}

func (s *Service) remove(path string, recursive bool) error {
	dir, name, err := s.space.Parent(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	info, err := statAt(dir, name, path)
	if err != nil {
		return err
	}
	if !info.GetDir() {
		return space.PathError("remove", path, unix.Unlinkat(int(dir.Fd()), name, 0))
	}
	if !recursive {
		return rterr.New(rterr.IllegalState, "", "is a folder").With("path", path).WithRemedy("ask for a recursive removal")
	}
	root, err := s.space.DirRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(name)
}
