package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// checkUpload refuses what is no upload's name: it has the form of an action's id.
func checkUpload(id string) error {
	if action.CheckID(id) != nil {
		return rterr.Invalid("", "upload", "must be 1 to 128 characters of [A-Za-z0-9._:-], not starting with a dot")
	}
	return nil
}

// isSum reports whether s is a sha-256 in lower-case hex digits.
func isSum(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && s == strings.ToLower(s)
}

// piece is what the query of a PUT asks for.
type piece struct {
	upload  string
	offset  int64
	final   bool
	sum     string
	mode    uint32
	hasMode bool
}

// parsePiece reads the query of a PUT. Errors are InvalidArgument naming the parameter.
func parsePiece(q url.Values) (piece, error) {
	p := piece{upload: q.Get("upload"), sum: q.Get("sha256")}
	if err := checkUpload(p.upload); err != nil {
		return p, err
	}
	if text := q.Get("offset"); text != "" {
		n, ok := decimal(text)
		if !ok {
			return p, rterr.Invalid("", "offset", "%q is not a number of bytes", text)
		}
		p.offset = n
	}
	if p.sum != "" && !isSum(p.sum) {
		return p, rterr.Invalid("", "sha256", "must be 64 lower-case hex digits")
	}
	if text := q.Get("mode"); text != "" {
		n, err := strconv.ParseUint(text, 8, 32)
		if err != nil || n > 0o777 {
			return p, rterr.Invalid("", "mode", "%q is not an octal mode up to 777", text)
		}
		p.mode, p.hasMode = uint32(n), true
	}
	var err error
	p.final, err = boolean("", "final", q.Get("final"))
	return p, err
}

// Uploaded is the JSON answer to a PUT.
type Uploaded struct {
	// Offset is the number of bytes that have arrived.
	Offset int64 `json:"offset"`
	// Complete: the file is in its place.
	Complete bool `json:"complete"`
	// SHA256 of the whole file in hex, once complete.
	SHA256 string `json:"sha256,omitempty"`
}

// upload appends the body of a PUT to an upload. A second request for an upload cuts off the first: the client has given it up.
func (s *Service) upload(w http.ResponseWriter, r *http.Request, path string) error {
	p, err := parsePiece(r.URL.Query())
	if err != nil {
		return fsError("put", path, err)
	}
	u, err := s.uploads.take(r.Context(), path, p.upload, func() {
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // a body that cannot be cut ends by itself
	})
	if err != nil {
		return fsError("put", path, err)
	}
	defer s.uploads.give(u)
	err = s.apply(u, p, r.Body)
	w.Header().Set(agent.UploadOffsetHeader, strconv.FormatInt(u.have, 10))
	if err != nil {
		return fsError("put", path, err)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Uploaded{Offset: u.have, Complete: u.sum != "", SHA256: u.sum}) // the client asks again
	return nil
}

// uploadOffset answers a HEAD: how much of an upload has arrived. NotFound if nothing has.
func (s *Service) uploadOffset(w http.ResponseWriter, path, id string) error {
	if err := checkUpload(id); err != nil {
		return rterr.Wrap(rterr.InvalidArgument, "head "+path, err)
	}
	have, complete, err := s.uploads.offset(path, id)
	if err != nil {
		return fsError("head", path, err)
	}
	w.Header().Set(agent.UploadOffsetHeader, strconv.FormatInt(have, 10))
	if complete {
		w.Header().Set(UploadCompleteHeader, "?1")
	}
	return nil
}

// apply does what one PUT asks for, on an upload that the caller holds.
func (s *Service) apply(u *upload, p piece, body io.Reader) error {
	if u.sum != "" {
		return u.repeated(p)
	}
	dir, name, err := s.space.Parent(u.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if info, err := statAt(dir, name, u.path); err == nil && info.GetDir() {
		return rterr.Invalid("", "path", "is a folder")
	}
	temp, err := s.openTemp(u, dir)
	if err != nil {
		return err
	}
	defer temp.Close()
	if p.offset != u.have {
		return misplaced(p.offset, u.have)
	}
	if err := s.receive(u, temp, body); err != nil || !p.final {
		return err
	}
	return s.finish(u, p, dir, name, temp)
}

func misplaced(offset, have int64) error {
	return rterr.New(rterr.IllegalState, "", "the piece begins at %d, %d bytes have arrived", offset, have).WithField("offset").
		With("upload_offset", strconv.FormatInt(have, 10)).WithRemedy("send the piece that begins at upload_offset").WithRan(rterr.RanNo)
}

// openTemp opens the hidden file beside the target and brings u in line with it.
func (s *Service) openTemp(u *upload, dir *os.File) (*os.File, error) {
	if err := s.uploads.note(u); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(dir.Fd()), u.temp, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, space.PathError("open", u.path, err)
	}
	temp := os.NewFile(uintptr(fd), u.temp)
	info, err := temp.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", u.temp)
	}
	if err != nil {
		_ = temp.Close()
		return nil, err
	}
	if info.Size() != u.have { // the agent was restarted, or somebody touched it
		u.have, u.hashed, u.hash = info.Size(), 0, sha256.New()
	}
	return temp, nil
}

// receive appends body. What has arrived counts, whatever the error.
func (s *Service) receive(u *upload, temp *os.File, body io.Reader) error {
	buf, giveBack := s.borrow()
	defer giveBack()
	if err := u.catchUp(temp, buf[:]); err != nil {
		return err
	}
	limited := io.LimitReader(body, s.cfg.MaxFile-u.have+1)
	n, err := copyHashed(&offsetWriter{temp, u.have}, limited, u.hash, buf[:])
	u.have += n
	u.hashed = u.have
	switch {
	case err == nil && u.have > s.cfg.MaxFile:
		return errors.Join(s.uploads.drop(u), tooLarge(s.cfg.MaxFile))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return rterr.New(rterr.Cancelled, "", "another request goes on with this upload")
	case err != nil && !isErrno(err):
		return rterr.New(rterr.Network, "", "the body was cut: %v", err).With("upload_offset", strconv.FormatInt(u.have, 10)).WithCause(err)
	}
	return err
}

// isErrno tells the file's errors from the connection's, which come wrapped in net.OpError.
func isErrno(err error) bool {
	_, fromFile := errors.AsType[*os.PathError](err)
	return fromFile
}

func tooLarge(limit int64) error {
	e := rterr.New(rterr.LimitExceeded, "", "more than %d bytes", limit).With("limit", strconv.FormatInt(limit, 10))
	e.Retryable = false
	return e
}

// offsetWriter writes at a place that moves on, so that a shared file offset plays no part.
type offsetWriter struct {
	f  *os.File
	at int64
}

// Write implements io.Writer.
func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}

// finish checks the hash, sets the mode and renames the file into its place. A file with the wrong hash is removed.
func (s *Service) finish(u *upload, p piece, dir *os.File, name string, temp *os.File) error {
	sum := hex.EncodeToString(u.hash.Sum(nil))
	if p.sum != "" && p.sum != sum {
		return errors.Join(rterr.New(rterr.Integrity, "", "the file arrived with another hash; it was thrown away").
			With("sha256_expected", p.sum).With("sha256_arrived", sum).WithRemedy("upload it again from the start"), s.uploads.drop(u))
	}
	if err := temp.Chmod(os.FileMode(finalMode(p, dir, name))); err != nil {
		return err
	}
	if err := unix.Renameat(int(dir.Fd()), u.temp, int(dir.Fd()), name); err != nil {
		return space.PathError("rename", u.path, err)
	}
	return s.uploads.finished(u, sum)
}

// finalMode is what was asked for, else that of the file which is replaced, else 0644.
func finalMode(p piece, dir *os.File, name string) uint32 {
	if p.hasMode {
		return p.mode
	}
	if info, err := statAt(dir, name, name); err == nil && info.GetLinkTarget() == "" {
		return info.GetMode() & 0o777
	}
	return 0o644
}

// upload is one file on its way in. Its fields belong to whoever holds turn.
type upload struct {
	path string
	id   string
	temp string
	// turn has one token; cut ends the request that has it.
	turn chan struct{}
	cut  func()

	have   int64
	hashed int64
	hash   hash.Hash
	noted  bool
	last   time.Time
	// sum is set once the file is in its place.
	sum string
}

// catchUp hashes what arrived before the agent's start.
func (u *upload) catchUp(temp *os.File, buf []byte) error {
	if u.hashed == u.have {
		return nil
	}
	n, err := copyHashed(io.Discard, io.NewSectionReader(temp, u.hashed, u.have-u.hashed), u.hash, buf)
	u.hashed += n
	if err == nil && u.hashed != u.have {
		err = fmt.Errorf("the upload became shorter while it was read: %d of %d bytes", u.hashed, u.have)
	}
	return err
}

// repeated answers the last request again, whose answer was lost.
func (u *upload) repeated(p piece) error {
	switch {
	case !p.final || p.sum != "" && p.sum != u.sum:
		return rterr.New(rterr.IllegalState, "", "the upload is complete").With("sha256", u.sum).WithRemedy("use a new upload id")
	case p.offset > u.have:
		return misplaced(p.offset, u.have)
	}
	return nil
}

// tempName is the hidden name beside the target, the same for the same target and upload at every start.
func tempName(path, id string) string {
	sum := sha256.Sum256([]byte(filepath.Base(path) + "\x00" + id))
	return tempPrefix + hex.EncodeToString(sum[:16])
}

// take waits for an upload's turn, cutting off who has it.
func (t *uploads) take(ctx context.Context, path, id string, cut func()) (*upload, error) {
	u, err := t.find(path, id)
	if err != nil {
		return nil, err
	}
	for {
		t.interrupt(u)
		select {
		case u.turn <- struct{}{}:
			t.mu.Lock()
			u.cut, u.last = cut, time.Now()
			current := t.live[u.path+"\x00"+u.id] == u
			t.mu.Unlock()
			if current {
				return u, nil
			}
			<-u.turn // dropped while we waited
			if u, err = t.find(path, id); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
