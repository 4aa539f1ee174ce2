package answer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Files is Sessions in a folder: PRINCIPAL/sessions/SID/NAME. Names that are no plain file names are replaced by their hash, and
// no link leads out of the folder.
type Files struct {
	root *os.Root
}

var _ Sessions = (*Files)(nil)

// OpenFiles opens the folder dir, and makes it with mode 0700 if it is not there. Close it.
func OpenFiles(dir string) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, "open session files", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, "open session files", err)
	}
	return &Files{root}, nil
}

// Close closes the folder.
func (f *Files) Close() error { return f.root.Close() }

// plainName is what becomes a file name as it is: shorter than any limit, no dot in front, no character that means something.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,119}$`)

// nameOf is one to one: no plain name begins with =.
func nameOf(s string) string {
	if plainName.MatchString(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "=" + hex.EncodeToString(sum[:])
}

func folderOf(principal, sid string) string {
	return path.Join(nameOf(principal), "sessions", nameOf(sid))
}

// Write replaces a file; it is on the disk when Write returns.
func (f *Files) Write(principal, sid, name string, data []byte) error {
	folder := folderOf(principal, sid)
	if err := f.root.MkdirAll(folder, 0o700); err != nil {
		return rterr.Wrap(rterr.Internal, "", reasonOf(err))
	}
	temp := path.Join(folder, "="+rand.Text())
	err := f.fill(temp, data)
	if err == nil {
		err = f.root.Rename(temp, path.Join(folder, nameOf(name)))
	}
	if err != nil {
		_ = f.root.Remove(temp) // the first error says more
	}
	return rterr.Wrap(rterr.Internal, "", reasonOf(err))
}

func (f *Files) fill(name string, data []byte) error {
	file, err := f.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// Read returns a file.
func (f *Files) Read(principal, sid, name string) ([]byte, error) {
	data, err := f.root.ReadFile(path.Join(folderOf(principal, sid), nameOf(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, rterr.New(rterr.NotFound, "", "there is no %s", name)
	}
	return data, rterr.Wrap(rterr.Internal, "", reasonOf(err))
}

// reasonOf leaves out where the host keeps its files: agents read these texts.
func reasonOf(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return failed.Err
	}
	if failed, ok := errors.AsType[*os.LinkError](err); ok {
		return failed.Err
	}
	return err
}
