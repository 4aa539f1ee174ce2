package serve

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// envClientCert is how go-plugin's AutoMTLS passes the host's certificate.
const envClientCert = "PLUGIN_CLIENT_CERT"

// servePlugin is the life of a process that a host launched. It returns nil when the host asked it to end or is gone.
func (m *program) servePlugin(ctx context.Context) error {
	logger := m.logger(true)
	b, err := newBackend(m.Options, logger)
	if err != nil {
		return err
	}
	server, err := startPlugin(b, m.getenv(envClientCert), logger)
	if err != nil {
		return err
	}
	defer server.close()
	if _, err := fmt.Fprintln(m.stdout, server.line); err != nil {
		return fmt.Errorf("hand the address to the host: %w", err)
	}
	alive, release := lifeline(ctx, m.stdin, m.getenv(EnvLifeline) == "stdin", logger)
	defer release()
	select {
	case <-server.ended: // the host's Shutdown
		return nil
	case <-alive.Done():
	}
	limit := drainLimit
	if errors.Is(context.Cause(alive), errHostGone) {
		limit = orphanLimit
	}
	logger.Debug("stopping", "cause", context.Cause(alive))
	// Both contexts have ended; the way out has its own limit.
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	stop(stopCtx, b.gate, server.grpc, logger)
	return nil
}

// pluginServer is go-plugin's server in this process.
type pluginServer struct {
	line  string // the handshake line
	grpc  *grpc.Server
	ended chan struct{} // closed when go-plugin has stopped serving
	close context.CancelFunc
}

// startPlugin has go-plugin serve b and returns once its address is known.
//
// It runs go-plugin in its embedded ("test") mode: in it go-plugin negotiates, listens and serves as always, and leaves to its
// caller what a plugin must own here: the handshake line, the standard streams (the other mode replaces os.Stdout and os.Stderr
// by pipes that block when nobody reads), the signals and the end of the process.
func startPlugin(b *backend, clientCert string, logger hclog.Logger) (*pluginServer, error) {
	if clientCert == "" {
		return nil, errors.New("the host offers no certificate: AutoMTLS is required")
	}
	tlsConfig, err := hostTLS(clientCert)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &pluginServer{ended: make(chan struct{}), close: cancel}
	addresses := make(chan *plugin.ReattachConfig, 1)
	go plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  Handshake(),
		VersionedPlugins: Plugins(b),
		TLSProvider:      func() (*tls.Config, error) { return tlsConfig, nil },
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			s.grpc = newServer(b.gate, logger, opts...)
			return s.grpc
		},
		Logger: logger.Named("go-plugin"),
		Test:   &plugin.ServeTestConfig{Context: ctx, ReattachConfigCh: addresses, CloseCh: s.ended},
	})
	select {
	case a := <-addresses:
		s.line = handshakeLine(a, tlsConfig.Certificates[0].Certificate[0])
		return s, nil
	case <-s.ended:
		cancel()
		return nil, errors.New("go-plugin could not start to serve, the log says why")
	}
}

// handshakeLine is what go-plugin's host reads: core protocol, protocol, network, address, "grpc", certificate.
func handshakeLine(a *plugin.ReattachConfig, cert []byte) string {
	return fmt.Sprintf("%d|%d|%s|%s|%s|%s", plugin.CoreProtocolVersion, a.ProtocolVersion, a.Addr.Network(), a.Addr,
		a.Protocol, base64.RawStdEncoding.EncodeToString(cert))
}
