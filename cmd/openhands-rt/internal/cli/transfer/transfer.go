// Package transfer moves files and folders between this machine and a runtime: streamed, resumed where a cut has left off, and
// with their hash checked at the other end.
//
// It belongs to the command line; nothing else imports it.
package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// The bounds of this package, in bytes: what is copied at once, and how much of an error's answer is read.
const (
	copyBuffer = 256 << 10
	maxError   = 64 << 10
)

// Client moves files of one runtime. Its methods may be called one at a time.
type Client struct {
	// Do sends a request; URL makes its address from a query.
	Do  func(*http.Request) (*http.Response, error)
	URL func(url.Values) string
	// Transient says which errors are worth another try, Reconnect how long one outage may last.
	Transient func(error) bool
	Reconnect time.Duration
	// Progress is told how many more bytes have moved; negative when some must move again. May be nil.
	Progress func(n int64)
	// OnRetry is told why a transfer has to go on. May be nil.
	OnRetry func(error)
}

func (c *Client) moved(n int64) {
	if c.Progress != nil && n != 0 {
		c.Progress(n)
	}
}

// cut tells OnRetry of an error that will be tried again.
func (c *Client) cut(err error) error {
	if err != nil && c.Transient(err) && c.OnRetry != nil {
		c.OnRetry(err)
	}
	return err
}

// request sends one request and returns its answer; anything but a 2xx is an error.
func (c *Client) request(ctx context.Context, method string, query url.Values, body io.Reader, length int64, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL(query), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = length
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // what has come is all there is to say
	err = rthttp.Read(resp.StatusCode, text)
	if len(text) == 0 && resp.StatusCode == http.StatusNotFound { // a HEAD has no body
		err = rterr.New(rterr.NotFound, "", "not found")
	}
	return nil, err
}

// finish reads an answer to its end, so that its connection can be used again.
func finish(resp *http.Response) error {
	defer resp.Body.Close()
	_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxError))
	return err
}

// checkDigest compares what arrived with the trailer of the answer, which is there only after the body's end.
func checkDigest(resp *http.Response, sum hash.Hash) error {
	want, got := resp.Trailer.Get(agent.DigestTrailer), digest(sum)
	switch {
	case want == got:
		return nil
	case want == "":
		return rterr.New(rterr.Integrity, "", "the answer came without its hash: it cannot be known whether it is whole")
	default:
		return rterr.New(rterr.Integrity, "", "what arrived has another hash than what was sent").
			With("sha256_sent", want).With("sha256_arrived", got)
	}
}

func digest(sum hash.Hash) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + ":"
}

// hashing is a hash that counts each byte of a file once, also of those that are sent again.
type hashing struct {
	hash.Hash
	upTo int64
}

func newHashing() *hashing { return &hashing{Hash: sha256.New()} }

// at adds the bytes of p, which begin at offset, that were not there yet.
func (h *hashing) at(p []byte, offset int64) {
	end := offset + int64(len(p))
	if end <= h.upTo {
		return
	}
	h.Write(p[max(0, h.upTo-offset):])
	h.upTo = end
}

// reader reads a piece of a file, counts and hashes it. It is lent to a request, whose transport may go on reading for a moment
// after the answer: takeBack ends that.
type reader struct {
	c    *Client
	src  io.Reader
	hash *hashing

	mu    sync.Mutex
	at    int64
	taken bool
}

// takeBack waits for a Read that is under way, fails all later ones, and returns the offset that was reached.
func (r *reader) takeBack() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = true
	return r.at
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken {
		return 0, io.ErrClosedPipe
	}
	n, err := r.src.Read(p)
	r.hash.at(p[:n], r.at)
	r.at += int64(n)
	r.c.moved(int64(n))
	return n, err
}
