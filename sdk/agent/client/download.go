package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// DownloadOptions say what is fetched.
type DownloadOptions struct {
	// Path in the sandbox, absolute or relative to the workspace.
	Path string
	// Offset is where to begin, in bytes.
	Offset int64
	// Progress, if set, is called with the bytes that have come and the size of the whole file, both counted from its start.
	Progress func(done, total int64)
}

// Download writes a file to dst, and goes on where a connection was cut. Every piece is checked against the agent's digest; a
// file that changed meanwhile is Integrity. What was written before an error is not taken back. Blocks until done.
func (c *Client) Download(ctx context.Context, o DownloadOptions, dst io.Writer) (Transferred, error) {
	d := &downloader{c: c, o: o, at: o.Offset, all: sha256.New(), buf: make([]byte, bulkBuffer)}
	for stuck := 0; ; {
		before := d.at
		err := d.piece(ctx, dst)
		if err == nil {
			return Transferred{Bytes: d.at - o.Offset, SHA256: hex.EncodeToString(d.all.Sum(nil))}, nil
		}
		if d.at > before {
			stuck = 0
		}
		if stuck++; stuck > transferTries || !rterr.Is(err, rterr.Network, rterr.SandboxUnreachable) {
			return Transferred{}, rterr.Wrap(rterr.Network, "download "+o.Path, err)
		}
		if err := pause(ctx, retryPause<<stuck); err != nil {
			return Transferred{}, rterr.Wrap(rterr.Cancelled, "download "+o.Path, err)
		}
	}
}

// downloader is one download, over as many requests as it takes.
type downloader struct {
	c     *Client
	o     DownloadOptions
	at    int64
	total int64
	etag  string
	all   hash.Hash
	buf   []byte
}

// piece fetches from at to the end of the file.
func (d *downloader) piece(ctx context.Context, dst io.Writer) error {
	r, err := d.c.request(ctx, http.MethodGet, agent.FilesPath, url.Values{"path": {d.o.Path}}, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
	if d.etag != "" {
		r.Header.Set("If-Range", d.etag)
	}
	resp, err := d.c.send(r)
	if err != nil {
		return err
	}
	defer finishBody(resp)
	done, err := d.begins(resp)
	if err != nil || done {
		return err
	}
	sum := sha256.New()
	err = d.copy(dst, io.TeeReader(resp.Body, sum))
	if err != nil {
		return err
	}
	return checkDigest(resp, sum)
}

// begins checks that the answer goes on where we are. done: there is nothing after the offset.
func (d *downloader) begins(resp *http.Response) (done bool, err error) {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var start, end int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &start, &end, &d.total); err != nil || start != d.at {
			return false, rterr.New(rterr.Provider, "", "an answer with the wrong range %q", resp.Header.Get("Content-Range"))
		}
	case http.StatusOK:
		if d.at > 0 {
			return false, rterr.New(rterr.Integrity, "", "the file changed while it was fetched").WithRemedy("fetch it again from the start")
		}
	case http.StatusRequestedRangeNotSatisfiable:
		total, err := strconv.ParseInt(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes */"), 10, 64)
		if err == nil && total == d.at && (d.etag == "" || d.etag == resp.Header.Get("ETag")) {
			return true, nil
		}
		return false, rterr.Invalid("", "offset", "%d is beyond the end of the file", d.at)
	default:
		return false, readFailure(resp)
	}
	d.etag = resp.Header.Get("ETag")
	return false, nil
}

func (d *downloader) copy(dst io.Writer, src io.Reader) error {
	for {
		n, readErr := src.Read(d.buf)
		if n > 0 {
			if _, err := dst.Write(d.buf[:n]); err != nil {
				return rterr.New(rterr.Internal, "", "writing what came: %v", err).WithCause(err)
			}
			d.all.Write(d.buf[:n])
			d.at += int64(n)
			if d.o.Progress != nil {
				d.o.Progress(d.at, max(d.total, d.at))
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return d.c.cutBody(readErr)
		}
	}
}

// DownloadArchive writes a folder as a tar stream to dst and returns how many entries were left out. It cannot be resumed.
func (c *Client) DownloadArchive(ctx context.Context, path string, dst io.Writer) (skipped int, err error) {
	op := "download folder " + path
	resp, err := c.do(ctx, http.MethodGet, url.Values{"path": {path}, "archive": {"tar"}}, nil, -1)
	if err != nil {
		return 0, rterr.Wrap(rterr.Network, op, err)
	}
	defer finishBody(resp)
	if resp.StatusCode != http.StatusOK {
		return 0, rterr.Wrap(rterr.Provider, op, readFailure(resp))
	}
	d := &downloader{c: c, all: sha256.New(), buf: make([]byte, bulkBuffer)}
	if err := d.copy(dst, resp.Body); err != nil {
		return 0, rterr.Wrap(rterr.Network, op, err)
	}
	skipped, _ = strconv.Atoi(resp.Trailer.Get(skippedTrailer)) // an agent that does not say has skipped nothing
	return skipped, rterr.Wrap(rterr.Integrity, op, checkDigest(resp, d.all))
}

// skippedTrailer is files.SkippedTrailer; the client does not import the server's side.
const skippedTrailer = "Files-Skipped"

// UploadArchive unpacks a tar stream into a folder of the sandbox, which is made if need be. It cannot be resumed. It closes
// src, which must end a blocked Read (an *io.PipeReader or *os.File does), and reads no more of it once it has returned.
func (c *Client) UploadArchive(ctx context.Context, path string, src io.ReadCloser) error {
	op := "upload folder " + path
	body := &lent{r: src}
	defer func() {
		_ = src.Close() // it was only read
		body.takeBack()
	}()
	resp, err := c.do(ctx, http.MethodPut, url.Values{"path": {path}, "archive": {"tar"}}, body, -1)
	if err != nil {
		return rterr.Wrap(rterr.Network, op, err)
	}
	defer finishBody(resp)
	if resp.StatusCode != http.StatusOK {
		return rterr.Wrap(rterr.Provider, op, readFailure(resp))
	}
	return nil
}

// checkDigest compares what came with the trailer. An agent that sends none is not believed.
func checkDigest(resp *http.Response, sum hash.Hash) error {
	field := resp.Trailer.Get(agent.DigestTrailer)
	text, ok := strings.CutPrefix(field, "sha-256=:")
	want, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, ":"))
	if !ok || err != nil {
		return rterr.New(rterr.Integrity, "", "the agent sent no digest of what it sent").With("repr_digest", field)
	}
	if got := sum.Sum(nil); !bytes.Equal(got, want) {
		return rterr.New(rterr.Integrity, "", "what came is not what was sent").
			With("sha256_sent", hex.EncodeToString(want)).With("sha256_arrived", hex.EncodeToString(got))
	}
	return nil
}

// request builds a request to a path of the agent's.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Request, error) {
	target := *c.base
	target.Path += path
	target.RawQuery = q.Encode()
	return http.NewRequestWithContext(ctx, method, target.String(), body)
}

// send makes a request that may be large. Errors are those of the connection.
func (c *Client) send(r *http.Request) (*http.Response, error) {
	resp, err := c.bulk.RoundTrip(r)
	if err != nil {
		return nil, c.cutBody(err)
	}
	return resp, nil
}

// do is request and send to /files. A length below zero is unknown.
func (c *Client) do(ctx context.Context, method string, q url.Values, body io.Reader, length int64) (*http.Response, error) {
	if length == 0 {
		body = http.NoBody
	}
	r, err := c.request(ctx, method, agent.FilesPath, q, body)
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		r.ContentLength = length
	}
	return c.send(r)
}

// lent is a source that net/http reads until it is taken back: it may read on after RoundTrip has returned.
type lent struct {
	mu    sync.Mutex
	r     io.Reader
	taken bool
}

// Read implements io.Reader.
func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken {
		return 0, fs.ErrClosed
	}
	return l.r.Read(p)
}

// takeBack returns when nobody reads the source any more, nor will.
func (l *lent) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = true
}

// cutBody is a connection that broke under a transfer.
func (c *Client) cutBody(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return rterr.Wrap(rterr.Network, "", err)
	}
	return rterr.New(rterr.Network, "", "%v", err).With("address", c.address).WithCause(err)
}

func readFailure(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status alone says enough if it is cut
	return rthttp.Read(resp.StatusCode, raw)
}

// finishBody reads what little is left, so that the connection is used again, and closes.
func finishBody(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	_ = resp.Body.Close()
}
