package host

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/host/door/openhands"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The waits of this package.
const (
	// headerLimit bounds the arrival of a request's headers.
	headerLimit = 10 * time.Second
	// idleLimit is how long an idle connection is kept.
	idleLimit = 2 * time.Minute
	// streamGrace is how long open requests may go on once the daemon stops; their actions go on anyway.
	streamGrace = 2 * time.Second
	// restoreLimit bounds the first look for every sandbox; those that do not answer by then are looked for in the background.
	restoreLimit = 30 * time.Second
)

// Endpoint is data_dir/endpoint.json: where a daemon on this machine is found. It is there only while the daemon is ready.
type Endpoint struct {
	// URL of the API, SandboxURL of the listener below which runtimes are, neither with a trailing slash.
	URL        string `json:"url"`
	SandboxURL string `json:"sandbox_url"`
	// KeyFile has the API key.
	KeyFile string `json:"key_file"`
}

// EndpointFile is the name of that file.
const EndpointFile = "endpoint.json"

// write puts the file there in one step.
func (e Endpoint) write(dataDir string) error {
	data, err := json.Marshal(e)
	if err != nil {
		return rterr.Wrap(rterr.Internal, "write endpoint", err)
	}
	temp := filepath.Join(dataDir, "."+EndpointFile)
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		return rterr.Wrap(rterr.Internal, "write endpoint", err)
	}
	return rterr.Wrap(rterr.Internal, "write endpoint", os.Rename(temp, filepath.Join(dataDir, EndpointFile)))
}

// remove takes the file away; that it is not there is fine.
func (Endpoint) remove(dataDir string) error {
	err := os.Remove(filepath.Join(dataDir, EndpointFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// listen opens a listener; field is the config key that named the address.
func listen(ctx context.Context, field, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, "listen", "%v", err).WithField(field).WithCause(err).
			WithRemedy("choose a free address for " + field + " (port 0 takes any), or stop what uses it")
	}
	return l, nil
}

// urlOf is the URL at which this machine reaches a listener.
func urlOf(l net.Listener) string {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok || addr.IP.IsUnspecified() {
		_, port, _ := net.SplitHostPort(l.Addr().String()) // an address that listens has a port
		return "http://" + net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + addr.String()
}

// newServer is an HTTP server for HTTP/1.1 and HTTP/2 without TLS (gRPC needs it).
func newServer(h http.Handler, log hclog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: &protocols, ReadHeaderTimeout: headerLimit, IdleTimeout: idleLimit,
		ErrorLog: log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}

// newSandboxServer is the server below whose paths the runtimes are. It has no HTTP/2, which would hide from the door whether its
// answers arrive; what is next is served besides it.
func newSandboxServer(door *openhands.Door, next http.Handler, log hclog.Logger) *http.Server {
	s := newServer(door.Sandboxes(next), log)
	s.Protocols.SetUnencryptedHTTP2(false)
	s.ConnContext = door.ConnContext
	return s
}

// shut ends a server: open requests have streamGrace.
func shut(s *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), streamGrace)
	defer cancel()
	err := s.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return s.Close()
	}
	return err
}
