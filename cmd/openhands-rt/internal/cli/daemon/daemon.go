package daemon

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// maxMessage is the contract's limit of one message, in bytes.
const maxMessage = 8 << 20

// transferBuffer is the transport's buffer in each direction, in bytes: files go through it.
const transferBuffer = 256 << 10

// base is the address under which requests are built; the transport puts the daemon's present one in its place.
const base = "http://daemon.invalid"

// Daemon is a daemon's API. Methods of the clients return Connect errors: pass them through Explain. Safe for concurrent use.
type Daemon struct {
	Runtimes   runtimev1connect.RuntimeServiceClient
	Actions    runtimev1connect.ActionServiceClient
	Files      runtimev1connect.FileServiceClient
	Workspaces runtimev1connect.WorkspaceServiceClient

	http *http.Client
	to   *redirector
}

// Open finds a daemon and returns its API. It does not connect. Close it when done.
func Open(w Where) (*Daemon, error) {
	a, err := Find(w)
	if err != nil {
		return nil, err
	}
	to := &redirector{where: w, next: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 8,
		WriteBufferSize: transferBuffer, ReadBufferSize: transferBuffer,
		// Bodies are byte-exact and mostly local; compressing them would only cost time.
		DisableCompression: true,
	}}
	to.address.Store(a)
	d := &Daemon{http: &http.Client{Transport: to}, to: to}
	opts := []connect.ClientOption{
		connect.WithReadMaxBytes(maxMessage), connect.WithSendMaxBytes(maxMessage),
		connect.WithAcceptCompression("gzip", nil, nil), // none is asked for, for the same reason
	}
	d.Runtimes = runtimev1connect.NewRuntimeServiceClient(d.http, base, opts...)
	d.Actions = runtimev1connect.NewActionServiceClient(d.http, base, opts...)
	d.Files = runtimev1connect.NewFileServiceClient(d.http, base, opts...)
	d.Workspaces = runtimev1connect.NewWorkspaceServiceClient(d.http, base, opts...)
	return d, nil
}

// Address is where the daemon is now.
func (d *Daemon) Address() *Address { return d.to.address.Load() }

// Close lets go of idle connections.
func (d *Daemon) Close() { d.to.next.CloseIdleConnections() }

// Do sends a plain HTTP request whose URL was made by FilesURL.
func (d *Daemon) Do(req *http.Request) (*http.Response, error) { return d.http.Do(req) }

// FilesURL is the address of a runtime's files with a query.
func FilesURL(runtimeID string, query url.Values) string {
	return base + "/v1/runtimes/" + url.PathEscape(runtimeID) + "/files?" + query.Encode()
}

// Explain turns an error of a client, or of Do, into an *rterr.Error that says what a person needs to know. nil stays nil.
func (d *Daemon) Explain(op string, err error) error {
	if err == nil {
		return nil
	}
	a := d.Address()
	if errors.Is(err, syscall.ECONNREFUSED) {
		return a.refused(op).WithCause(err)
	}
	if Cut(err) && !errors.Is(err, context.DeadlineExceeded) {
		return rterr.New(rterr.Network, op, "the connection to the daemon at %s failed: %s", a.URL, plain(err)).WithCause(err)
	}
	err = rthttp.FromConnect(err)
	if rterr.Is(err, rterr.Unauthenticated) {
		return rterr.New(rterr.Unauthenticated, op, "the daemon at %s does not accept the key from %s", a.URL, a.KeySource).
			WithRemedy("use the key of that daemon: --key-file, " + EnvKeyFile + " or " + EnvKey).WithRan(rterr.RanNo).WithCause(err)
	}
	if e, ok := errors.AsType[*rterr.Error](err); ok && strings.HasPrefix(e.Error(), op+": ") {
		return err // the daemon calls the operation by the same name
	}
	return rterr.Wrap(rterr.Network, op, err)
}

func (a *Address) refused(op string) *rterr.Error {
	if !a.fromFile {
		return rterr.New(rterr.Network, op, "nothing listens at %s (from %s)", a.URL, a.Source).
			WithRemedy("check the address, or start a daemon there with `openhands-rt serve`").WithRan(rterr.RanNo)
	}
	return rterr.New(rterr.Network, op, "the daemon has died: %s names %s, where nothing listens", a.Source, a.URL).
		WithRemedy("start it again with `openhands-rt serve`: it takes its runtimes and actions up again").WithRan(rterr.RanNo)
}

// plain is the innermost text of an error of the connection: what net/http and Connect put before it names no real address.
func plain(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err.Error()
	}
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		return ce.Message()
	}
	return err.Error()
}

// Cut reports whether the connection failed, or was cut, before the daemon had answered.
func Cut(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || connect.IsWireError(err) || LocalFile(err) {
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	_, isNet := errors.AsType[net.Error](err)
	_, isErrno := errors.AsType[syscall.Errno](err)
	return isNet || isErrno || connect.CodeOf(err) == connect.CodeUnavailable
}

// LocalFile reports whether an error is about a file of this machine.
func LocalFile(err error) bool {
	_, path := errors.AsType[*fs.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	return path || link
}

// Transient reports whether an error says nothing about the request itself: the connection was cut or could not be made, or
// the daemon or what is behind it is not there at the moment.
func Transient(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	return Cut(err) ||
		rterr.Is(rthttp.FromConnect(err), rterr.Network, rterr.Unavailable, rterr.SandboxUnreachable, rterr.PluginUnavailable)
}

// redirector sends each request to the daemon's present address, with its key. A daemon that was restarted may listen
// elsewhere: when it cannot be reached, the endpoint file is read again, for the next request.
type redirector struct {
	where   Where
	next    *http.Transport
	address atomic.Pointer[Address]
}

// RoundTrip implements http.RoundTripper.
func (r *redirector) RoundTrip(req *http.Request) (*http.Response, error) {
	a := r.address.Load()
	to, err := url.Parse(a.URL)
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host, out.Host = to.Scheme, to.Host, ""
	if prefix := strings.TrimRight(to.Path, "/"); prefix != "" {
		out.URL.Path, out.URL.RawPath = prefix+out.URL.Path, ""
	}
	out.Header.Set("Authorization", "Bearer "+a.key)
	resp, err := r.next.RoundTrip(out)
	if err != nil && a.fromFile && isDial(err) {
		if fresh, findErr := Find(r.where); findErr == nil {
			r.address.Store(fresh)
		}
	}
	return resp, err
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
