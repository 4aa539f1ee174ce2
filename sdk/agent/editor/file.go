package editor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent/editor/charset"
	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
)

// patient are the flags with which nothing is waited for: not the other end of a FIFO, not a device.
const patient = unix.O_NONBLOCK | unix.O_NOCTTY

// errSpecial is what is neither a file nor a folder.
var errSpecial = errors.New("it is no regular file")

// tooLarge is the size of a file that is not read.
type tooLarge int64

func (t tooLarge) Error() string {
	return fmt.Sprintf("File is too large (%.1fMB). Maximum allowed size is %dMB.", float64(t)/1024/1024, maxFile>>20)
}

// files reads and writes whole files.
type files struct{ space *space.Space }

// stat follows links.
func (f files) stat(path string) (*unix.Stat_t, error) {
	file, err := f.space.Open(path, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return fstat(file)
}

func fstat(file *os.File) (*unix.Stat_t, error) {
	var st unix.Stat_t
	var err error
	if c := control(file, func(fd int) { err = unix.Fstat(fd, &st) }); c != nil {
		return nil, c
	}
	return &st, space.PathError("stat", file.Name(), err)
}

// control calls f with the descriptor, which stays as it is.
func control(file *os.File, f func(fd int)) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { f(int(fd)) })
}

// open opens a regular file. What is none is not even opened where that can be seen before: opening a device may do something.
func (f files) open(path string, flags int, mode uint32) (*os.File, *unix.Stat_t, error) {
	if st, err := f.stat(path); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, special(path, st)
	}
	file, err := f.space.Open(path, flags|patient, mode)
	if err != nil {
		return nil, nil, err
	}
	st, err := fstat(file)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = special(path, st)
	}
	if err != nil {
		_ = file.Close() // Nothing was done with it.
		return nil, nil, err
	}
	return file, st, nil
}

func special(path string, st *unix.Stat_t) error {
	if isDir(st) {
		return &fs.PathError{Op: "open", Path: path, Err: unix.EISDIR}
	}
	return &fs.PathError{Op: "open", Path: path, Err: errSpecial}
}

// head reads the beginning of a file, as much as charset.Binary needs.
func (f files) head(path string) ([]byte, error) {
	file, _, err := f.open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readUpTo(file, charset.HeadSize)
}

// read reads a whole file; tooLarge if it has more than maxFile bytes.
func (f files) read(path string) ([]byte, error) {
	file, st, err := f.open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if st.Size > maxFile {
		return nil, tooLarge(st.Size)
	}
	data, err := readUpTo(file, maxFile+1) // The size of a file of the kernel's says nothing, and any file may grow.
	if err == nil && len(data) > maxFile {
		err = tooLarge(len(data))
	}
	return data, err
}

// readUpTo reads to the end or to the limit. It waits for nothing: some files of the kernel's have nothing for now.
func readUpTo(file *os.File, limit int) ([]byte, error) {
	var data []byte
	buf := make([]byte, min(limit, 64<<10))
	for len(data) < limit {
		var n int
		var err error
		if c := control(file, func(fd int) { n, err = unix.Read(fd, buf[:min(len(buf), limit-len(data))]) }); c != nil {
			return nil, c
		}
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, space.PathError("read", file.Name(), err)
		case n == 0:
			return data, nil
		}
		data = append(data, buf[:n]...)
	}
	return data, nil
}

// write makes data the content of a file, in place: its mode, its owner, the links to it stay. A new file gets mode, less the umask
// unless exact. Nothing is lost where there is no room for data.
func (f files) write(path string, data []byte, mode uint32, exact bool) error {
	_, err := f.stat(path)
	made := errors.Is(err, fs.ErrNotExist)
	file, st, err := f.open(path, unix.O_WRONLY|unix.O_CREAT, mode)
	if err != nil {
		return err
	}
	err = f.fill(file, st.Size, data)
	if made && exact && err == nil {
		err = file.Chmod(fs.FileMode(mode))
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (f files) fill(file *os.File, have int64, data []byte) error {
	if size := int64(len(data)); size > have {
		var err error
		if c := control(file, func(fd int) { err = unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, size) }); c != nil {
			return c
		}
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			return space.PathError("write", file.Name(), err)
		} // Others: it cannot be found out here.
	}
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(data)))
}
