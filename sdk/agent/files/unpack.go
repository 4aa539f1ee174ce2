package files

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Unpacked is the JSON answer to a PUT of an archive.
type Unpacked struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// unpack makes what a tar stream holds in a folder, which is made if need be. It is confined to the folder: an entry with an
// absolute name or "..", a link that leads out, a device or a pipe ends it with InvalidArgument; what came before stays.
// Owners and set-id bits are not taken over.
func (s *Service) unpack(w http.ResponseWriter, r *http.Request, name string) error {
	if err := s.space.MakeDirs(name); err != nil {
		return fsError("unpack", name, err)
	}
	root, err := s.space.DirRoot(name)
	if err != nil {
		return fsError("unpack", name, err)
	}
	defer root.Close()
	buf, giveBack := s.borrow()
	defer giveBack()
	u := &unpacker{s: s, root: root, buf: buf[:]}
	if err := u.run(r.Body); err != nil {
		return fsError("unpack", name, err)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(u.made) // the client is gone if this fails
	return nil
}

// unpacker works through an os.Root alone, so that even a link that was made behind its back leads nowhere else.
type unpacker struct {
	s    *Service
	root *os.Root
	buf  []byte
	made Unpacked
	// dirs get their modes last: what we may not write to may have entries.
	dirs []dirMode
}

type dirMode struct {
	name string
	mode fs.FileMode
}

func (u *unpacker) run(body io.Reader) error {
	in := tar.NewReader(body)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // we say ourselves what is insecure
			return rterr.Invalid("", "archive", "is not a whole tar stream: %v", err)
		}
		if u.made.Entries++; u.made.Entries > u.s.cfg.MaxEntries {
			return tooMany(u.s.cfg.MaxEntries)
		}
		if err := u.entry(header, in); err != nil {
			return entryError(header.Name, err)
		}
	}
	for _, d := range slices.Backward(u.dirs) {
		if err := u.root.Chmod(d.name, d.mode); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, body) // padding after the end, so that the connection can be used again
	return err
}

// entryError names the entry. A stream that ends in the middle of a file is the sender's fault, not the file's.
func entryError(name string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = rterr.Invalid("", "archive", "is not a whole tar stream: %v", err)
	}
	return fsError("entry", printable(name), err)
}

func printable(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), 200)], "\uFFFD")
}

// entryName returns the clean relative name of an entry, "." for the folder itself.
func entryName(name string) (string, error) {
	switch {
	case name == "" || strings.ContainsRune(name, 0) || len(name) >= space.MaxPath:
		return "", rterr.Invalid("", "archive", "has an entry with an impossible name")
	case path.IsAbs(name):
		return "", rterr.Invalid("", "archive", "has an entry with an absolute name")
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", rterr.Invalid("", "archive", `has an entry with ".." in its name`)
	}
	return path.Clean(name), nil
}

// linkTarget refuses a link from the entry name that leads out of the folder.
func linkTarget(name, target string) error {
	if target == "" || strings.ContainsRune(target, 0) || len(target) >= space.MaxPath {
		return rterr.Invalid("", "archive", "has a link with an impossible target")
	}
	if path.IsAbs(target) {
		return rterr.Invalid("", "archive", "has a link to an absolute path")
	}
	// Counted element by element: cleaning first would hide "a/../.." behind a link a.
	depth := strings.Count(name, "/")
	for element := range strings.SplitSeq(target, "/") {
		switch element {
		case "", ".":
		case "..":
			depth--
		default:
			depth++
		}
		if depth < 0 {
			return rterr.Invalid("", "archive", "has a link that leads out of the folder")
		}
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header, in io.Reader) error {
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.folder(name, h)
	}
	if name == "." {
		return rterr.Invalid("", "archive", "has an entry in place of the folder itself")
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, h, in)
	case tar.TypeSymlink:
		if err := linkTarget(name, h.Linkname); err != nil {
			return err
		}
		return u.place(name, func() error { return u.root.Symlink(h.Linkname, name) })
	case tar.TypeLink:
		return u.hardLink(name, h.Linkname)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return rterr.Invalid("", "archive", "has an entry of type %q: neither file, folder nor link", h.Typeflag)
	}
}

// hardLink links to a file that is in the folder already, and to nothing but a regular file.
func (u *unpacker) hardLink(name, target string) error {
	old, err := entryName(target)
	if err != nil {
		return err
	}
	info, err := u.root.Lstat(old)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return rterr.Invalid("", "archive", "has a hard link to what is no file")
	}
	if old == name {
		return nil
	}
	return u.place(name, func() error { return u.root.Link(old, name) })
}

func (u *unpacker) folder(name string, h *tar.Header) error {
	mode := h.FileInfo().Mode().Perm()
	if name == "." {
		return nil
	}
	if err := u.root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	if mode&0o700 != 0o700 {
		u.dirs = append(u.dirs, dirMode{name, mode})
	}
	return u.root.Chmod(name, mode|0o700)
}

// place makes one entry new: its parents are made, and a file or link of that name is removed, never written through.
func (u *unpacker) place(name string, make func() error) error {
	err := make()
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		err = make()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, statErr := u.root.Lstat(name); statErr == nil && info.IsDir() {
		return rterr.New(rterr.AlreadyExists, "", "a folder has that name")
	}
	if err := u.root.Remove(name); err != nil {
		return err
	}
	return make()
}

func (u *unpacker) file(name string, h *tar.Header, in io.Reader) error {
	if h.Size > u.s.cfg.MaxFile-u.made.Bytes {
		return tooLarge(u.s.cfg.MaxFile)
	}
	if err := u.write(name, in, h.FileInfo().Mode().Perm()); err != nil {
		return err
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}

// write makes a new regular file of what in has.
func (u *unpacker) write(name string, in io.Reader, mode fs.FileMode) error {
	var f *os.File
	err := u.place(name, func() (err error) {
		f, err = u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{f}, in, u.buf)
	u.made.Bytes += n
	if err == nil {
		err = f.Chmod(mode)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
