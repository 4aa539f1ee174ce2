package files

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Zip is a folder that is about to be sent as a zip archive.
type Zip struct {
	s     *Service
	path  string
	isDir bool
	// Skipped counts, once Send has returned, what was left out: links that lead nowhere, what is neither file nor folder, and what
	// vanished or could not be read meanwhile.
	Skipped int

	out     *zip.Writer
	buf     []byte
	todo    []string
	entries int
}

// Zip returns a folder's archive. NotFound if there is nothing at path, which must be absolute. What is there and is no folder
// makes an empty archive.
func (s *Service) Zip(name string) (*Zip, error) {
	const op = "zip"
	if !filepath.IsAbs(name) {
		return nil, rterr.Invalid(op, "path", "%q is not an absolute path", printable(name))
	}
	clean, err := s.space.Clean(name)
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	f, err := s.space.Open(clean, unix.O_PATH, 0)
	if err != nil {
		return nil, fsError(op, clean, err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fsError(op, clean, err)
	}
	z := &Zip{s: s, path: clean, isDir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
	if !z.isDir {
		return z, nil
	}
	top, err := s.space.Open(clean, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil { // now, while it can still be said
		return nil, fsError(op, clean, err)
	}
	return z, top.Close()
}

// Send writes the archive to w as it reads the files: each with its name relative to the folder, not compressed. Links to files are
// sent as what they lead to, links to folders are not followed, folders without files do not appear. An error is of w, of ctx, or of
// a bound; the archive is then cut. Call it once.
func (z *Zip) Send(ctx context.Context, w io.Writer) error {
	buf, giveBack := z.s.borrow()
	defer giveBack()
	z.buf = buf[:]
	z.out = zip.NewWriter(w)
	if z.isDir {
		z.todo = append(z.todo, ".")
	}
	for len(z.todo) > 0 {
		dir := z.todo[len(z.todo)-1]
		z.todo = z.todo[:len(z.todo)-1]
		if err := z.folder(ctx, dir); err != nil {
			return fsError("zip", z.path, err)
		}
	}
	return z.out.Close()
}

// folder sends the files of one folder and notes its folders. A folder that cannot be opened is skipped.
func (z *Zip) folder(ctx context.Context, dir string) error {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if dir != "." { // at the top, a link to the folder is fine
		flags |= unix.O_NOFOLLOW
	}
	f, err := z.s.space.Open(filepath.Join(z.path, dir), flags, 0)
	if err != nil {
		z.Skipped++
		return nil //nolint:nilerr // counted
	}
	defer f.Close()
	var failed error
	err = eachName(ctx, f, func(name string) bool {
		if !isTemp(name) {
			failed = z.entry(ctx, f, path.Join(dir, name))
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// entry looks at one name: a folder is noted, a file or a link to one sent.
func (z *Zip) entry(ctx context.Context, dir *os.File, name string) error {
	if z.entries++; z.entries > z.s.cfg.MaxEntries {
		return tooMany(z.s.cfg.MaxEntries)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		z.Skipped++
		return nil //nolint:nilerr // counted
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		z.todo = append(z.todo, name)
		return nil
	case unix.S_IFREG:
		return z.file(name)
	case unix.S_IFLNK:
		if isDir, ok := z.s.entryKind(int(dir.Fd()), filepath.Join(z.path, name)); ok && isDir {
			return nil
		}
		return z.file(name)
	}
	z.Skipped++
	return nil
}

// file sends one file with the content that it has when it is opened.
func (z *Zip) file(name string) error {
	f, st, err := z.s.openFile(filepath.Join(z.path, name))
	if err != nil {
		z.Skipped++
		return nil //nolint:nilerr // counted
	}
	defer f.Close()
	header := &zip.FileHeader{Name: name, Method: zip.Store}
	header.SetMode(fs.FileMode(st.Mode & 0o777))
	if modified := time.Unix(st.Mtim.Unix()); modified.Year() >= 1980 { // the format knows nothing before
		header.Modified = modified
	}
	out, err := z.out.CreateHeader(header)
	if err != nil {
		return err
	}
	limit := st.Size
	if limit == 0 {
		limit = maxUnsized // files of the kernel have content without a size
	}
	n, err := io.CopyBuffer(onlyWriter{out}, io.LimitReader(f, limit), z.buf)
	if err == nil && n < st.Size {
		err = fmt.Errorf("%s became shorter while it was sent: %d of %d bytes", name, n, st.Size)
	}
	return err
}
