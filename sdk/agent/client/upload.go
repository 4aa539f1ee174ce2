package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

const (
	// segment is what is kept of a source that cannot be read twice, and the size up to which a file goes in one request.
	segment = 4 << 20
	// transferTries is how often a transfer goes on without having moved in between.
	transferTries = 4
	// retryPause is the wait before the first of them; it doubles.
	retryPause = 50 * time.Millisecond
	// maxAnswer bounds a short answer.
	maxAnswer = 64 << 10
)

// UploadOptions say where a file goes.
type UploadOptions struct {
	// Path in the sandbox, absolute or relative to the workspace.
	Path string
	// Mode is the permissions; zero keeps those of the file that is replaced, else 0644.
	Mode fs.FileMode
	// ID names the upload: the same id goes on where an earlier call was cut off. Empty means a new one.
	ID string
	// Size of the source in bytes, for an io.ReaderAt; negative means that it is read to its end.
	Size int64
	// Progress, if set, is called, one call at a time and never after Upload has returned, with the bytes that were sent so
	// far. They may go back.
	Progress func(done int64)
}

// Transferred is what a transfer came to.
type Transferred struct {
	Bytes int64
	// SHA256 of the whole file, in hex; both ends agree on it. For a Download that began at an offset, of the bytes from there.
	SHA256 string
}

// Upload sends a file. It appears under its path whole, or not at all. A cut connection is taken up again where it was cut; a
// source that is an io.ReaderAt is streamed in one request, from its offset 0 on, another one in segments that are kept until
// they have arrived. Blocks until done. Errors: Integrity if another hash arrived, Network if it could not go on.
func (c *Client) Upload(ctx context.Context, o UploadOptions, src io.Reader) (Transferred, error) {
	u := &uploader{c: c, o: o, hash: sha256.New(), fresh: o.ID == ""}
	if u.fresh {
		u.o.ID = action.NewID()
	}
	if at, ok := src.(io.ReaderAt); ok && o.Size >= 0 {
		u.next = u.whole(at)
	} else {
		u.next = u.segments(src)
	}
	if err := u.run(ctx); err != nil {
		return Transferred{}, rterr.Wrap(rterr.Network, "upload to "+o.Path, err)
	}
	return Transferred{Bytes: u.end, SHA256: hex.EncodeToString(u.hash.Sum(nil))}, nil
}

// uploader is one upload. The source is read in order; the hash follows the furthest byte that was read.
type uploader struct {
	c      *Client
	o      UploadOptions
	hash   hash.Hash
	hashed int64
	// next returns the source's bytes from offset on, and how many; last if nothing comes after them. Offsets do not go back
	// behind what the agent has had.
	next func(offset int64) (body io.Reader, length int64, last bool, err error)
	// fresh: nobody has used the id before.
	fresh bool
	end   int64
}

func (u *uploader) run(ctx context.Context) error {
	offset, err := u.begin(ctx)
	if err != nil {
		return err
	}
	for stuck := 0; ; {
		have, complete, err := u.step(ctx, offset)
		switch {
		case complete:
			u.end = have
			return nil
		case err == nil && have <= offset:
			return rterr.New(rterr.Provider, "", "the agent took a piece at %d and has %d bytes", offset, have)
		case err != nil && (stuck == transferTries || !resumable(err)):
			return err
		case err != nil:
			if have, err = u.again(ctx, offset, retryPause<<stuck); err != nil {
				return err
			}
			stuck++
		}
		if have > offset {
			stuck = 0
		}
		offset = have
	}
}

// again waits and asks how much has arrived. An agent that cannot be asked has what it had.
func (u *uploader) again(ctx context.Context, offset int64, wait time.Duration) (int64, error) {
	if err := pause(ctx, wait); err != nil {
		return 0, err
	}
	have, err := u.have(ctx)
	if err != nil && resumable(err) {
		return offset, nil
	}
	return have, err
}

// begin finds out where an upload that was named goes on.
func (u *uploader) begin(ctx context.Context) (int64, error) {
	if u.fresh {
		return 0, nil
	}
	return u.have(ctx)
}

// have asks how much has arrived; nothing at all is 0.
func (u *uploader) have(ctx context.Context) (int64, error) {
	resp, err := u.c.do(ctx, http.MethodHead, u.query(nil), nil, -1)
	if err != nil {
		return 0, err
	}
	defer finishBody(resp)
	if resp.StatusCode == http.StatusNotFound {
		return 0, nil
	}
	if resp.StatusCode != http.StatusOK {
		return 0, rthttp.Read(resp.StatusCode, nil)
	}
	n, err := strconv.ParseInt(resp.Header.Get(agent.UploadOffsetHeader), 10, 64)
	if err != nil || n < 0 {
		return 0, rterr.New(rterr.Provider, "", "an answer without %s", agent.UploadOffsetHeader)
	}
	return n, nil
}

// step sends what comes after offset, and returns how much has arrived then.
func (u *uploader) step(ctx context.Context, offset int64) (have int64, complete bool, err error) {
	body, length, last, err := u.next(offset)
	if err != nil {
		return offset, false, rterr.New(rterr.InvalidArgument, "", "reading the source: %v", err).WithCause(err)
	}
	extra := url.Values{"offset": {strconv.FormatInt(offset, 10)}}
	if _, inMemory := body.(*bytes.Reader); last && (inMemory || length == 0) { // all of it has been hashed
		extra.Set("final", "true")
		extra.Set("sha256", hex.EncodeToString(u.hash.Sum(nil)))
		if u.o.Mode != 0 {
			extra.Set("mode", strconv.FormatUint(uint64(u.o.Mode.Perm()), 8))
		}
	}
	source := &lent{r: &progress{r: body, at: offset, report: u.o.Progress}}
	defer source.takeBack()
	resp, err := u.c.do(ctx, http.MethodPut, u.query(extra), source, length)
	if err != nil {
		return offset, false, err
	}
	defer finishBody(resp)
	return readUploaded(resp)
}

func readUploaded(resp *http.Response) (have int64, complete bool, err error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, false, rterr.New(rterr.Network, "", "%v", err).WithCause(err)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, false, rthttp.Read(resp.StatusCode, raw)
	}
	var answer struct {
		Offset   int64 `json:"offset"`
		Complete bool  `json:"complete"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return 0, false, rterr.New(rterr.Provider, "", "an answer that is no JSON: %v", err)
	}
	return answer.Offset, answer.Complete, nil
}

func (u *uploader) query(extra url.Values) url.Values {
	q := url.Values{"path": {u.o.Path}, "upload": {u.o.ID}}
	for k, v := range extra {
		q[k] = v
	}
	return q
}

// whole streams a source that can be read anywhere: one request with all of it, then an empty one with the hash. A small file
// is read, hashed and sent in one.
func (u *uploader) whole(src io.ReaderAt) func(int64) (io.Reader, int64, bool, error) {
	return func(offset int64) (io.Reader, int64, bool, error) {
		left := u.o.Size - offset
		if left < 0 {
			return nil, 0, false, errors.New("more has arrived than the source holds")
		}
		if err := u.hashTo(src, offset); err != nil {
			return nil, 0, false, err
		}
		if left > 0 && left <= segment/4 {
			buf := make([]byte, left)
			if n, err := src.ReadAt(buf, offset); int64(n) < left {
				return nil, 0, false, noEOF(err)
			}
			u.take(buf, offset)
			return bytes.NewReader(buf), left, true, nil
		}
		body := &hashing{u: u, r: io.NewSectionReader(src, offset, left), at: offset}
		return body, left, left == 0, nil
	}
}

// hashTo reads what an earlier call has sent, for the hash alone.
func (u *uploader) hashTo(src io.ReaderAt, offset int64) error {
	if u.hashed >= offset {
		return nil
	}
	n, err := io.CopyBuffer(u.hash, io.NewSectionReader(src, u.hashed, offset-u.hashed), make([]byte, bulkBuffer))
	u.hashed += n
	if err == nil && u.hashed < offset {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// take hashes what is new in data, which begins at offset.
func (u *uploader) take(data []byte, offset int64) {
	if end := offset + int64(len(data)); end > u.hashed {
		u.hash.Write(data[u.hashed-offset:])
		u.hashed = end
	}
}

// segments reads a source that can be read once. The present segment is kept until a later offset is asked for.
func (u *uploader) segments(src io.Reader) func(int64) (io.Reader, int64, bool, error) {
	buf := make([]byte, 0, segment)
	var start int64
	ended := false
	return func(offset int64) (io.Reader, int64, bool, error) {
		for offset >= start+int64(len(buf)) && !ended {
			start += int64(len(buf))
			n, err := io.ReadFull(src, buf[:segment])
			buf = buf[:n]
			u.take(buf, start)
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, 0, false, err
			}
			ended = err != nil
		}
		if offset < start || offset > start+int64(len(buf)) {
			return nil, 0, false, errors.New("the agent asks for what is no longer kept")
		}
		rest := buf[offset-start:]
		return bytes.NewReader(rest), int64(len(rest)), ended, nil
	}
}

func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// hashing hashes what is read of a source.
type hashing struct {
	u  *uploader
	r  io.Reader
	at int64
}

// Read implements io.Reader.
func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.u.take(p[:n], h.at)
	h.at += int64(n)
	return n, err
}

// progress reports what was read.
type progress struct {
	r      io.Reader
	at     int64
	report func(int64)
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.at += int64(n)
	if n > 0 && p.report != nil {
		p.report(p.at)
	}
	return n, err
}

// resumable: the connection broke, or the agent has another offset.
func resumable(err error) bool {
	return rterr.Is(err, rterr.Network, rterr.IllegalState, rterr.SandboxUnreachable)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
