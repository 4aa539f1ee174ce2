// Package client speaks to a sandbox agent: the RPCs of agent.v1, and uploads, downloads and ports over plain HTTP.
//
// The host, backends and the SDK use it. Errors are *rterr.Error; one that may have reached the agent says so (Ran).
package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http/httpguts"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1/agentv1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/agent/socket"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// The waits and bounds of this package.
const (
	// dialTimeout bounds one connection, tlsTimeout its handshake.
	dialTimeout, tlsTimeout = 10 * time.Second, 10 * time.Second
	// silence is how long a stream may say nothing before it counts as cut: three heartbeats and a half.
	silence = 35 * time.Second
	// lastBytes is how long the end of a stream may take to follow the observation.
	lastBytes = time.Second
	// idleRPC and idleBulk are how long unused connections are kept; shorter than the agent keeps them.
	idleRPC, idleBulk = 2 * time.Minute, 10 * time.Second
	// maxIdleRPC and maxIdleBulk bound them.
	maxIdleRPC, maxIdleBulk = 8, 2
	// maxMessage is the largest message, both ways.
	maxMessage = 8 << 20
	// bulkBuffer is what transfers are written and read with.
	bulkBuffer = 256 << 10
	// unixHost stands for the socket in URLs.
	unixHost = "agent"
)

// Config says where an agent is and how to be let in.
type Config struct {
	// Address is "unix:///path.sock", "http://host:port" or "https://host".
	Address string
	// Path is put before every path of the agent's; empty for none.
	Path string
	// Headers are sent with every request, as tunnels want them.
	Headers map[string]string
	// Credential is sent as a bearer token. It is never part of an error.
	Credential string
}

// Client is a connection pool to one agent. All methods may be called from any goroutine.
type Client struct {
	address string
	base    *url.URL
	rpc     agentv1connect.AgentServiceClient
	// unary transports keep small buffers, because there are many; bulk ones large buffers.
	small, large *http.Transport
	bulk         http.RoundTripper
}

// New returns a client. No I/O; errors are InvalidArgument naming the field.
//
// RPCs go over HTTP/1.1 with a pool of connections on unix sockets and http, where it has the lower latency
// (BenchmarkUnary), and over HTTP/2 on https.
func New(cfg Config) (*Client, error) {
	base, path, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	base.Path = strings.TrimRight("/"+strings.Trim(cfg.Path, "/"), "/")
	header, err := headerOf(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{address: cfg.Address, base: base}
	c.small = transport(path, maxIdleRPC, idleRPC, 4<<10)
	c.large = transport(path, maxIdleBulk, idleBulk, bulkBuffer)
	if base.Scheme == "https" {
		c.small.ForceAttemptHTTP2 = true
	}
	c.bulk = &authorized{next: c.large, header: header, host: base.Host}
	c.rpc = agentv1connect.NewAgentServiceClient(
		&http.Client{Transport: &authorized{next: c.small, header: header, host: base.Host, rpc: true}, CheckRedirect: noRedirect},
		base.String(), connect.WithReadMaxBytes(maxMessage), connect.WithAcceptCompression("gzip", nil, nil))
	return c, nil
}

// noRedirect keeps the credential from following a tunnel's redirect to a login page.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func parseAddress(address string) (base *url.URL, socketPath string, err error) {
	const op = "new agent client"
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", rterr.Invalid(op, "address", "is no URL")
	}
	switch {
	case u.User != nil:
		return nil, "", rterr.Invalid(op, "address", "must not hold a user or password")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, "", rterr.Invalid(op, "address", "must not have a query or fragment")
	case u.Scheme == "unix":
		path := u.Path
		if u.Host != "" {
			return nil, "", rterr.Invalid(op, "address", "%q needs three slashes: unix:///path", address)
		}
		if err := socket.Check(path); err != nil {
			return nil, "", rterr.Invalid(op, "address", "%v", err)
		}
		return &url.URL{Scheme: "http", Host: unixHost}, path, nil
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "", rterr.Invalid(op, "address", "%q begins with neither unix://, http:// nor https://", address)
	case u.Host == "":
		return nil, "", rterr.Invalid(op, "address", "%q has no host", address)
	case u.Path != "" && u.Path != "/":
		return nil, "", rterr.Invalid(op, "address", "%q has a path; it goes into Path", address)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, "", nil
}

func headerOf(cfg Config) (http.Header, error) {
	const op = "new agent client"
	header := http.Header{}
	for name, value := range cfg.Headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, rterr.Invalid(op, "headers", "%q is no header, or has an impossible value", name)
		}
		header.Set(name, value)
	}
	if cfg.Credential == "" || !httpguts.ValidHeaderFieldValue(cfg.Credential) {
		return nil, rterr.Invalid(op, "credential", "is missing or has characters that no header can carry")
	}
	header.Set(agent.CredentialHeader, "Bearer "+cfg.Credential)
	return header, nil
}

func transport(socketPath string, idle int, keep time.Duration, buffer int) *http.Transport {
	t := &http.Transport{
		DisableCompression:    true,
		MaxIdleConns:          idle,
		MaxIdleConnsPerHost:   idle,
		IdleConnTimeout:       keep,
		TLSHandshakeTimeout:   tlsTimeout,
		ExpectContinueTimeout: time.Second,
		ReadBufferSize:        buffer,
		WriteBufferSize:       buffer,
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	if socketPath == "" {
		t.Proxy, t.DialContext = http.ProxyFromEnvironment, dialer.DialContext
		return t
	}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return socket.Dial(ctx, socketPath)
	}
	return t
}

// authorized adds the credential and headers, to requests for the agent's host alone.
type authorized struct {
	next   http.RoundTripper
	header http.Header
	host   string
	rpc    bool
}

// RoundTrip implements http.RoundTripper. Every request of the protocol may be sent twice (ids and offsets see to that), so
// the transport is told to replay one that met a connection which the agent had closed.
func (a *authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != a.host {
		return nil, errors.New("the agent client was asked for another host")
	}
	out := *r
	out.Header = make(http.Header, len(r.Header)+len(a.header)+1)
	for name, values := range r.Header {
		out.Header[name] = values
	}
	for name, values := range a.header {
		out.Header[name] = values
	}
	if !a.rpc {
		return a.next.RoundTrip(&out)
	}
	out.Header["Idempotency-Key"] = nil // not sent: only net/http reads it
	resp, err := a.next.RoundTrip(&out)
	if err == nil {
		resp.Body = drained{resp.Body}
	}
	return resp, err
}

// drained reads a body to its end before it is closed, so that its connection is used again: Connect stops reading at its own
// end of a stream. A stream that is closed early has had its context cancelled before, which ends the reading.
type drained struct{ io.ReadCloser }

// Close implements io.Closer.
func (d drained) Close() error {
	_, _ = io.CopyN(io.Discard, d.ReadCloser, 4<<10) // what cannot be read is cut
	return d.ReadCloser.Close()
}

// Close closes the connections that are not in use. Streams go on until they are closed.
func (c *Client) Close() error {
	c.small.CloseIdleConnections()
	c.large.CloseIdleConnections()
	return nil
}

// HTTP returns a transport that adds headers and credential, and the URL below which the agent's paths are (no trailing slash).
// It refuses other hosts. For files and proxies to ports.
func (c *Client) HTTP() (http.RoundTripper, *url.URL) {
	base := *c.base
	return c.bulk, &base
}

// fail turns an error of Connect or net/http into ours. reached says what is unknown where the connection broke.
func (c *Client) fail(ctx context.Context, op string, err error, reached rterr.Ran) error {
	e := *rterr.From(rthttp.FromConnect(err))
	if ce, ok := errors.AsType[*connect.Error](err); ok && !connect.IsWireError(err) {
		e = *c.transportError(ctx, ce)
		e.Ran = reached
		if notSent(err) {
			e.Ran = rterr.RanNo
		}
	}
	return rterr.Wrap(e.Reason, op, &e)
}

// transportError is a failure that the agent has not told: of the connection, of ctx, or of a message that does not fit.
// Whether ctx ended it is asked of ctx: Connect calls a broken pipe cancelled, too.
func (c *Client) transportError(ctx context.Context, ce *connect.Error) *rterr.Error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return rterr.New(rterr.Timeout, "", "no answer in time").With("address", c.address).WithCause(ce)
	case ctx.Err() != nil:
		return rterr.New(rterr.Cancelled, "", "cancelled by the caller").WithCause(ce)
	}
	switch ce.Code() {
	case connect.CodeResourceExhausted, connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeInvalidArgument:
		// A message that does not fit, or a status of something between us and the agent.
		return rterr.New(rterr.ReasonOf(rthttp.FromConnect(ce)), "", "%s", ce.Message()).With("address", c.address).WithCause(ce)
	}
	return rterr.New(rterr.Network, "", "%s", ce.Message()).With("address", c.address).WithCause(ce)
}

// notSent: no connection was made, so nothing can have reached the agent.
func notSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// Info asks who the agent is.
func (c *Client) Info(ctx context.Context) (*agentv1.InfoResponse, error) {
	return unary(ctx, c, "agent info", c.rpc.Info, &agentv1.InfoRequest{})
}

// unary makes one call.
func unary[Req, Resp any](
	ctx context.Context, c *Client, op string,
	call func(context.Context, *connect.Request[Req]) (*connect.Response[Resp], error), req *Req,
) (*Resp, error) {
	answer, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, c.fail(ctx, op, err, rterr.RanUnspecified)
	}
	return answer.Msg, nil
}
