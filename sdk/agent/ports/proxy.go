// Package ports gives access to the TCP ports of a sandbox: a reverse proxy from /ports/N/... to 127.0.0.1:N, WebSockets
// included, and the list of ports on which something listens. sdk/agent/server serves both.
package ports

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// The waits and bounds of this package.
const (
	// dialTimeout bounds a connection to loopback: it is accepted or refused at once unless the backlog is full.
	dialTimeout = 5 * time.Second
	// idleTimeout closes connections to a port that nobody uses.
	idleTimeout = 30 * time.Second
	// maxIdlePerPort and maxIdle bound the connections that are kept.
	maxIdlePerPort, maxIdle = 4, 32
	// bufferSize is what a body is copied with.
	bufferSize = 32 << 10
)

// CookiePrefix begins the name of every cookie of the daemon's own; such cookies are never forwarded.
const CookiePrefix = "openhands-rt"

// Config is what the proxy can be told.
type Config struct {
	// Dial connects to a port; nil means 127.0.0.1.
	Dial func(ctx context.Context, port uint16) (net.Conn, error)
	// Logger may be nil.
	Logger hclog.Logger
}

// Proxy is the handler of agent.PortsPath. Close ends the connections that it keeps.
type Proxy struct {
	proxy     *httputil.ReverseProxy
	transport *http.Transport
}

// portKey is the context key of the port that a request goes to.
type portKey struct{}

// New returns a proxy. No I/O.
func New(cfg Config) *Proxy {
	if cfg.Dial == nil {
		cfg.Dial = dialLoopback
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	p := &Proxy{}
	p.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			port, err := portOf(addr)
			if err != nil {
				return nil, err
			}
			return cfg.Dial(ctx, port)
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: maxIdlePerPort,
		MaxIdleConns:        maxIdle,
		IdleConnTimeout:     idleTimeout,
	}
	p.proxy = &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     p.transport,
		FlushInterval: -1, // what a sandbox sends is passed on as it comes
		BufferPool:    &buffers{pool: sync.Pool{New: func() any { return new([bufferSize]byte) }}},
		ErrorHandler:  failed,
		ErrorLog:      cfg.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	return p
}

// Close closes the connections that are kept for later requests.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }

// ServeHTTP forwards /ports/N/rest to port N as /rest. Failures before an answer are rterr: InvalidArgument for a path without a
// port, Network (502) if the port does not answer.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	port, rest, err := split(r.URL)
	if err != nil {
		rthttp.Write(w, err)
		return
	}
	out := r.WithContext(context.WithValue(r.Context(), portKey{}, port))
	out.URL = rest
	p.proxy.ServeHTTP(w, out)
}

// split takes the port off a path, keeping the rest as it was escaped.
func split(u *url.URL) (uint16, *url.URL, error) {
	escaped := strings.TrimPrefix(u.EscapedPath(), agent.PortsPath)
	number, rest, _ := strings.Cut(escaped, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return 0, nil, rterr.Invalid("reach a port", "port", "%q is not a port, 1 to 65535", number)
	}
	path, err := url.PathUnescape("/" + rest)
	if err != nil {
		return 0, nil, rterr.Invalid("reach a port", "path", "%v", err)
	}
	out := *u
	out.Path, out.RawPath = path, "/"+rest
	return uint16(port), &out, nil
}

func rewrite(r *httputil.ProxyRequest) {
	port, _ := r.In.Context().Value(portKey{}).(uint16)
	r.Out.URL.Scheme, r.Out.URL.Host = "http", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	r.Out.URL.RawQuery = r.In.URL.RawQuery // byte for byte: what it means is the sandbox's business
	// What names the way to here is forwarded; what opens it is not.
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Forwarded"} {
		if values, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = values
		}
	}
	if _, ok := r.Out.Header["X-Forwarded-Host"]; !ok && r.In.Host != "" {
		r.Out.Header.Set("X-Forwarded-Host", r.In.Host)
	}
	for _, name := range []string{agent.CredentialHeader, "Proxy-Authorization", "X-Api-Key", "X-Session-Api-Key"} {
		r.Out.Header.Del(name)
	}
	dropCookies(r.Out)
	if _, ok := r.Out.Header["User-Agent"]; !ok {
		r.Out.Header.Set("User-Agent", "") // none, rather than Go's
	}
}

// dropCookies leaves out the daemon's cookies and keeps the others byte for byte.
func dropCookies(r *http.Request) {
	var kept []string
	for _, line := range r.Header["Cookie"] {
		for part := range strings.SplitSeq(line, ";") {
			part = strings.TrimSpace(part)
			if part != "" && !strings.HasPrefix(part, CookiePrefix) {
				kept = append(kept, part)
			}
		}
	}
	r.Header.Del("Cookie")
	if len(kept) > 0 {
		r.Header.Set("Cookie", strings.Join(kept, "; "))
	}
}

// failed answers for a port that did not.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	port, _ := r.Context().Value(portKey{}).(uint16)
	if errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // the client is gone, or the agent is ending
	}
	number := strconv.Itoa(int(port))
	rthttp.Write(w, rterr.New(rterr.Network, "reach port "+number, "%v", err).With("port", number).
		WithRemedy("start something that listens on 127.0.0.1:"+number+" in the sandbox").WithCause(err))
}

func dialLoopback(ctx context.Context, port uint16) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
}

func portOf(addr string) (uint16, error) {
	_, number, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	port, err := strconv.ParseUint(number, 10, 16)
	return uint16(port), err
}

// buffers lends copy buffers to the reverse proxy.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return b.pool.Get().(*[bufferSize]byte)[:] }
func (b *buffers) Put(s []byte) { b.pool.Put((*[bufferSize]byte)(s)) }
