// Package forward passes requests on to sandboxes, for every door that does so: bodies and answers are streamed, upgrades too, and
// nothing that opens the daemon or the runtime goes along.
package forward

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"github.com/openhands-rt/openhands-rt/host/auth"
	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Forwarder passes requests on. It may be used from any goroutine.
type Forwarder struct {
	// Fail answers for a sandbox that did not.
	Fail func(w http.ResponseWriter, err error)

	buffers copyBuffers
}

// SecretHeaders never reach a sandbox: it is hostile, and OpenHands' client sends the daemon's key to the sandbox's URL.
func SecretHeaders() []string {
	return []string{"Authorization", auth.KeyHeader, runtime.SessionKeyHeader, "Cookie", "Proxy-Authorization"}
}

// Forward sends a request to path of the sandbox's agent, with the request's query; path is escaped already. It blocks until the
// answer has been passed back. A client that goes away ends it.
func (f *Forwarder) Forward(w http.ResponseWriter, r *http.Request, to runtime.Files, path string) {
	transport, base := to.HTTP()
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		BufferPool:    &f.buffers,
		FlushInterval: -1, // what a sandbox streams is passed on at once
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = target(base, path, p.In.URL.RawQuery)
			p.Out.Host = base.Host
			for _, name := range SecretHeaders() {
				p.Out.Header.Del(name)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				panic(http.ErrAbortHandler) // the client is gone
			}
			f.Fail(w, rterr.Wrap(rterr.SandboxUnreachable, "reach the sandbox", err))
		},
	}
	proxy.ServeHTTP(w, r)
}

// target is where a request goes; path is escaped already.
func target(base *url.URL, path, query string) *url.URL {
	u, err := url.Parse(strings.TrimSuffix(base.String(), "/") + path)
	if err != nil { // a path that got here by a request line can be parsed
		u = base.JoinPath("/")
	}
	u.RawQuery = query
	return u
}

// copyBufferSize is large because bodies are: fewer, larger writes.
const copyBufferSize = 256 << 10

// copyBuffers lends out buffers for copying.
type copyBuffers struct{ pool sync.Pool }

// Get lends a buffer.
func (c *copyBuffers) Get() []byte {
	if b, ok := c.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, copyBufferSize)
}

// Put takes it back.
func (c *copyBuffers) Put(b []byte) { c.pool.Put(&b) }
