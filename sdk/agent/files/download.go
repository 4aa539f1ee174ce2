package files

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// errUnsatisfiable is a range that has nothing of the file.
var errUnsatisfiable = errors.New("the range is beyond the end of the file")

// span is a piece of a file.
type span struct{ start, length int64 }

// parseRange reads a Range header for a file of size bytes. ok is false where the whole file is to be sent: no header, another
// unit, several ranges, or a malformed one, which RFC 9110 has ignored.
func parseRange(header string, size int64) (s span, ok bool, err error) {
	spec, isBytes := strings.CutPrefix(header, "bytes=")
	first, last, isRange := strings.Cut(strings.TrimSpace(spec), "-")
	if !isBytes || !isRange || strings.Contains(spec, ",") {
		return span{}, false, nil
	}
	if first == "" {
		return suffixRange(last, size)
	}
	start, startOK := decimal(first)
	end, endOK := decimal(last)
	if last == "" {
		end, endOK = size-1, true
	}
	switch {
	case !startOK || !endOK || last != "" && end < start:
		return span{}, false, nil
	case start == 0 && size == 0:
		return span{}, false, nil // "from the beginning" of an empty file: all of it
	case start >= size:
		return span{}, false, errUnsatisfiable
	}
	return span{start, min(end, size-1) - start + 1}, true, nil
}

func suffixRange(last string, size int64) (span, bool, error) {
	n, ok := decimal(last)
	switch {
	case !ok:
		return span{}, false, nil
	case n == 0:
		return span{}, false, errUnsatisfiable
	case size == 0:
		return span{}, false, nil
	}
	n = min(n, size)
	return span{size - n, n}, true, nil
}

// decimal reads digits alone: no sign, no spaces.
func decimal(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil && s[0] != '+'
}

// openFile opens a regular file for reading, without waiting on what is none.
func (s *Service) openFile(path string) (*os.File, *unix.Stat_t, error) {
	f, err := s.space.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	var st unix.Stat_t
	err = space.PathError("stat", path, unix.Fstat(int(f.Fd()), &st))
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = rterr.Invalid("", "path", "is a folder").WithRemedy("ask for archive=tar")
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = rterr.Invalid("", "path", "is neither a file nor a folder")
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, &st, nil
}

// etag changes whenever the file does.
func etag(st *unix.Stat_t) string {
	return fmt.Sprintf(`"%x-%x-%x"`, st.Ino, st.Size, st.Mtim.Nano())
}

func describe(h http.Header, st *unix.Stat_t) {
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Accept-Ranges", "bytes")
	h.Set("ETag", etag(st))
}

func (s *Service) head(w http.ResponseWriter, path string) error {
	f, st, err := s.openFile(path)
	if err != nil {
		return fsError("head", path, err)
	}
	_ = f.Close()
	describe(w.Header(), st)
	w.Header().Set("Content-Length", strconv.FormatInt(st.Size, 10))
	return nil
}

// download sends a file or a range of it. A range with If-Range is honoured only if the file is still the one of that ETag.
func (s *Service) download(w http.ResponseWriter, r *http.Request, path string) error {
	f, st, err := s.openFile(path)
	if err != nil {
		return fsError("get", path, err)
	}
	defer f.Close()
	h := w.Header()
	describe(h, st)
	part, partial, err := parseRange(r.Header.Get("Range"), st.Size)
	if condition := r.Header.Get("If-Range"); condition != "" && condition != etag(st) {
		partial, err = false, nil
	}
	if err != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", st.Size))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	h.Set("Trailer", agent.DigestTrailer)
	if !partial {
		part = span{0, st.Size}
		w.WriteHeader(http.StatusOK)
	} else {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.start, part.start+part.length-1, st.Size))
		w.WriteHeader(http.StatusPartialContent)
	}
	sum := sha256.New()
	if err := s.send(w, f, part, sum); err != nil {
		s.log.Debug("a download was cut", "path", path, "error", err)
		panic(http.ErrAbortHandler) // the status has gone; a cut body is how the client learns of it
	}
	h.Set(agent.DigestTrailer, digestField(sum))
	return nil
}

// send copies a piece of f, hashing it. A file of size 0 may be one of the kernel's, which have content without a size.
func (s *Service) send(w io.Writer, f *os.File, part span, sum hash.Hash) error {
	if _, err := f.Seek(part.start, io.SeekStart); err != nil {
		return err
	}
	limit := part.length
	if limit == 0 {
		limit = maxUnsized
	}
	buf, giveBack := s.borrow()
	defer giveBack()
	n, err := copyHashed(w, io.LimitReader(f, limit), sum, buf[:])
	if err == nil && n < part.length {
		return fmt.Errorf("the file became shorter: %d of %d bytes", n, part.length)
	}
	return err
}

// copyHashed copies until the end of r through buf and hashes what was written.
func copyHashed(w io.Writer, r io.Reader, sum hash.Hash, buf []byte) (int64, error) {
	var total int64
	for {
		n, err := r.Read(buf)
		if n > 0 {
			m, writeErr := w.Write(buf[:n])
			sum.Write(buf[:m])
			total += int64(m)
			if writeErr != nil {
				return total, writeErr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// digestField is the value of a Repr-Digest field.
func digestField(sum hash.Hash) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + ":"
}
