package files

import (
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The bounds of a zip archive.
const (
	// maxZipDirectory is how much of an archive may be its own directory, in bytes: it is held in memory.
	maxZipDirectory = 16 << 20
	// maxZipEntries is the number of entries.
	maxZipEntries = 200_000
	// maxUnzipped is the size of all files together.
	maxUnzipped = 16 << 30
	// From ratioFrom bytes on, files together may not be more than maxRatio times as large as the archive.
	ratioFrom, maxRatio = 256 << 20, 100
	// zipMode is the mode of every file.
	zipMode = 0o644
)

// unzipper unpacks one archive.
type unzipper struct {
	unpacker
	// ctx returns why to end early.
	ctx func() error
	// stage is the hidden folder in which the archive is unpacked.
	stage string
}

// run streams the archive to disk, checks all that it says of itself, unpacks, and moves.
func (z *unzipper) run(body io.Reader) error {
	archive, size, err := z.receive(body)
	if err != nil {
		return err
	}
	defer archive.Close()
	list, err := directory(archive, size)
	if err != nil {
		return err
	}
	if err := z.check(list, size); err != nil {
		return err
	}
	z.stage = freeName()
	if err := z.root.Mkdir(z.stage, 0o700); err != nil {
		return err
	}
	err = z.unpackAll(list)
	if err == nil {
		err = z.moveAll(list)
	}
	return errors.Join(err, z.root.RemoveAll(z.stage))
}

// receive writes the archive to a file that has no name any more: whatever happens, it is gone when it is closed.
func (z *unzipper) receive(body io.Reader) (*os.File, int64, error) {
	name := freeName()
	f, err := z.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
	if err != nil {
		return nil, 0, err
	}
	var size int64
	if err = z.root.Remove(name); err == nil {
		size, err = z.writeAll(f, body)
	}
	if err != nil {
		_ = f.Close() // the first error says more
		return nil, 0, err
	}
	return f, size, nil
}

// meter lets so much be read and no more.
type meter struct {
	from io.ReaderAt
	left int64
}

// ReadAt implements io.ReaderAt.
func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	if m.left -= int64(len(p)); m.left < 0 {
		return 0, tooMany(maxZipEntries)
	}
	return m.from.ReadAt(p, off)
}

// directory reads the list of entries.
func directory(archive io.ReaderAt, size int64) ([]*zip.File, error) {
	m := &meter{archive, maxZipDirectory}
	r, err := zip.NewReader(m, size)
	if _, ours := errors.AsType[*rterr.Error](err); ours {
		return nil, err
	}
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // we say ourselves what is insecure
		return nil, rterr.Invalid("", "archive", "is not a zip archive: %v", err)
	}
	m.left = 1 << 62 // the directory was what had to be bounded
	return r.File, nil
}

// check refuses an archive for what it says of itself. That it is true is checked when it is unpacked.
func (z *unzipper) check(list []*zip.File, size int64) error {
	if len(list) > min(maxZipEntries, z.s.cfg.MaxEntries) {
		return tooMany(min(maxZipEntries, z.s.cfg.MaxEntries))
	}
	bound := uint64(min(maxUnzipped, z.s.cfg.MaxFile))
	var total uint64
	for _, f := range list {
		name, err := entryName(f.Name)
		switch {
		case err != nil:
			return entryError(f.Name, err)
		case name == "." && !strings.HasSuffix(f.Name, "/"):
			return entryError(f.Name, rterr.Invalid("", "archive", "has an entry in place of the folder itself"))
		case f.Flags&1 != 0:
			return entryError(f.Name, rterr.Invalid("", "archive", "is encrypted"))
		}
		if total += f.UncompressedSize64; f.UncompressedSize64 > bound || total > bound {
			return tooLarge(int64(bound))
		}
	}
	if total > ratioFrom && total/maxRatio > uint64(size) {
		e := rterr.New(rterr.LimitExceeded, "", "%d bytes of archive would become %d: more than %d times as many", size, total, maxRatio)
		e.Retryable = false
		return e
	}
	return nil
}

// unpackAll unpacks into the hidden folder.
func (z *unzipper) unpackAll(list []*zip.File) error {
	for _, f := range list {
		if err := z.ctx(); err != nil {
			return err
		}
		name, err := entryName(f.Name)
		if err == nil && name != "." {
			err = z.unpackOne(path.Join(z.stage, name), f)
		}
		if err != nil {
			return entryError(f.Name, err)
		}
	}
	return nil
}

func (z *unzipper) unpackOne(name string, f *zip.File) error {
	if strings.HasSuffix(f.Name, "/") {
		return z.root.MkdirAll(name, 0o755)
	}
	in, err := f.Open()
	if err != nil {
		return rterr.Invalid("", "archive", "%v", err)
	}
	defer in.Close()
	// One byte more than was promised shows a lie; the reader itself finds it out too.
	err = z.write(name, io.LimitReader(in, int64(f.UncompressedSize64)+1), zipMode)
	if errors.Is(err, zip.ErrFormat) || errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrAlgorithm) {
		return rterr.Invalid("", "archive", "%v", err)
	}
	return err
}

// moveAll moves what was unpacked into its place: first the folders, then the files. What cannot be moved for sure (a folder where a
// file is wanted, a file where a folder is) is found out before anything is.
func (z *unzipper) moveAll(list []*zip.File) error {
	for _, f := range list {
		name, _ := entryName(f.Name) // checked before
		if err := z.fits(name, strings.HasSuffix(f.Name, "/")); err != nil {
			return entryError(f.Name, err)
		}
	}
	for _, f := range list {
		name, _ := entryName(f.Name)
		if err := z.move(name, strings.HasSuffix(f.Name, "/")); err != nil {
			return entryError(f.Name, err)
		}
	}
	return nil
}

// fits wants that nothing of another sort is in the place of an entry.
func (z *unzipper) fits(name string, isDir bool) error {
	look := z.root.Lstat // a link is replaced by a file
	if isDir {
		look = z.root.Stat
	}
	info, err := look(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir() && !isDir:
		return rterr.New(rterr.AlreadyExists, "", "a folder has that name")
	case !info.IsDir() && isDir:
		return rterr.New(rterr.AlreadyExists, "", "a file has that name")
	}
	return nil
}

func (z *unzipper) move(name string, isDir bool) error {
	if isDir {
		return z.root.MkdirAll(name, 0o755)
	}
	if err := z.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	err := z.root.Rename(path.Join(z.stage, name), name)
	if errors.Is(err, fs.ErrNotExist) { // the archive has this name twice, and it was moved
		return nil
	}
	return err
}
