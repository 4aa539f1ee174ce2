package transfer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/retry"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// UploadFile sends a regular file to remote with its permission bits. The whole is sent in one request; after a cut the rest is,
// from where the other side stands. The file appears at remote only once its hash was found right.
func (c *Client) UploadFile(ctx context.Context, local, remote string) error {
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	u := &upload{c: c, file: f, size: info.Size(), hash: newHashing(), query: url.Values{
		"path": {remote}, "upload": {"cli-" + strings.ToLower(rand.Text())},
	}}
	again := func(err error) bool { return c.Transient(err) || misplaced(err) }
	if _, err := retry.Do(ctx, c.Reconnect, again, func() (struct{}, error) { return struct{}{}, u.try(ctx) }); err != nil {
		return err
	}
	_, err = retry.Do(ctx, c.Reconnect, c.Transient, func() (struct{}, error) { return struct{}{}, u.final(ctx, info.Mode().Perm()) })
	return err
}

// upload is one file on its way in.
type upload struct {
	c     *Client
	file  *os.File
	size  int64
	hash  *hashing
	query url.Values
	again bool
	shown int64 // how far Progress has been told
}

// try sends what is missing.
func (u *upload) try(ctx context.Context) error {
	offset, err := u.offset(ctx)
	if err != nil {
		return u.c.cut(err)
	}
	u.c.moved(offset - u.shown)
	u.shown = offset
	if offset == u.size && u.hash.upTo == u.size {
		return nil
	}
	if _, err := u.file.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	u.again = true
	body := &reader{c: u.c, src: io.LimitReader(u.file, u.size-offset), at: offset, hash: u.hash}
	q := u.with("offset", strconv.FormatInt(offset, 10))
	resp, err := u.c.request(ctx, http.MethodPut, q, body, u.size-offset, nil)
	u.shown = body.takeBack()
	if err != nil {
		return u.failed(err, u.shown > offset)
	}
	return u.c.cut(finish(resp))
}

// failed tells a file that has become shorter, which no retry helps, from a cut.
func (u *upload) failed(err error, moved bool) error {
	if info, statErr := u.file.Stat(); statErr == nil && info.Size() < u.size {
		return rterr.New(rterr.Integrity, "", "%s became shorter while it was read", u.file.Name()).WithCause(err)
	}
	err = u.c.cut(err)
	if moved {
		return retry.Moved(err)
	}
	return err
}

// misplaced reports whether the other side stands elsewhere than it said: bytes of a request that was cut had still been on
// their way. It is asked again.
func misplaced(err error) bool {
	e, ok := errors.AsType[*rterr.Error](err)
	return ok && e.Reason == rterr.IllegalState && e.Evidence["upload_offset"] != ""
}

// offset asks how much has arrived; nothing needs to be asked before the first try.
func (u *upload) offset(ctx context.Context) (int64, error) {
	if !u.again {
		return 0, nil
	}
	resp, err := u.c.request(ctx, http.MethodHead, u.query, nil, 0, nil)
	if rterr.Is(err, rterr.NotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := finish(resp); err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(resp.Header.Get(agent.UploadOffsetHeader), 10, 64)
	if err != nil || n < 0 || n > u.size {
		return 0, rterr.New(rterr.Integrity, "", "the answer has a bad %s: %q", agent.UploadOffsetHeader, resp.Header.Get(agent.UploadOffsetHeader))
	}
	return min(n, u.hash.upTo), nil
}

// final puts the file into its place.
func (u *upload) final(ctx context.Context, mode fs.FileMode) error {
	q := u.with("offset", strconv.FormatInt(u.size, 10))
	q.Set("final", "true")
	q.Set("sha256", hex.EncodeToString(u.hash.Sum(nil)))
	q.Set("mode", fmt.Sprintf("%04o", mode))
	resp, err := u.c.request(ctx, http.MethodPut, q, http.NoBody, 0, nil)
	if err != nil {
		return u.c.cut(err)
	}
	return u.c.cut(finish(resp))
}

func (u *upload) with(key, value string) url.Values {
	q := url.Values{key: {value}}
	for k, v := range u.query {
		q[k] = v
	}
	return q
}

// DownloadFile fetches remote to local with the given permission bits. It is written beside its place and renamed into it once
// it is whole; after a cut the rest is fetched, if the file is still the same.
func (c *Client) DownloadFile(ctx context.Context, remote, local string, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(local), ".openhands-rt-*")
	if err != nil {
		return err
	}
	d := &download{c: c, query: url.Values{"path": {remote}}, to: temp}
	_, err = retry.Do(ctx, c.Reconnect, c.Transient, func() (struct{}, error) { return struct{}{}, d.try(ctx) })
	err = errors.Join(err, temp.Chmod(mode), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), local)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// download is one file on its way out.
type download struct {
	c     *Client
	query url.Values
	to    *os.File
	have  int64
	etag  string
}

// try fetches what is missing.
func (d *download) try(ctx context.Context) error {
	header := http.Header{}
	if d.have > 0 && d.etag != "" {
		header.Set("Range", "bytes="+strconv.FormatInt(d.have, 10)+"-")
		header.Set("If-Range", d.etag)
	}
	resp, err := d.c.request(ctx, http.MethodGet, d.query, nil, 0, header)
	if err != nil {
		return d.c.cut(err)
	}
	defer resp.Body.Close()
	if err := d.place(resp); err != nil {
		return err
	}
	before, sum := d.have, sha256.New()
	if err := d.receive(resp.Body, sum); err != nil {
		err = d.c.cut(err)
		if d.have > before {
			return retry.Moved(err)
		}
		return err
	}
	return checkDigest(resp, sum)
}

// place goes to where the answer begins: at what is there already, or at 0 if the file is another one by now.
func (d *download) place(resp *http.Response) error {
	start := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		start = d.have
		if want := fmt.Sprintf("bytes %d-", start); !strings.HasPrefix(resp.Header.Get("Content-Range"), want) {
			return rterr.New(rterr.Integrity, "", "asked for the bytes from %d, got %q", start, resp.Header.Get("Content-Range"))
		}
	}
	d.c.moved(start - d.have)
	d.have, d.etag = start, resp.Header.Get("ETag")
	if err := d.to.Truncate(start); err != nil {
		return err
	}
	_, err := d.to.Seek(start, io.SeekStart)
	return err
}

func (d *download) receive(body io.Reader, sum hash.Hash) error {
	buf := make([]byte, copyBuffer)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, writeErr := d.to.Write(buf[:n]); writeErr != nil {
				return writeErr
			}
			sum.Write(buf[:n])
			d.have += int64(n)
			d.c.moved(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
