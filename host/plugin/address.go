package plugin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// addressLink is a backend that somebody else runs.
type addressLink struct {
	conn   *grpc.ClientConn
	gone   chan struct{}
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var _ link = (*addressLink)(nil)

// dial prepares a connection; the first call makes it and tells what is wrong with it.
func dial(spec Spec) (link, error) {
	op := "dial backend " + spec.Backend
	network, target, _ := strings.Cut(spec.Address, "://")
	creds, err := credentialsFor(spec, network, target)
	if err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, op, "%v", err).WithField("backends." + spec.Backend + ".address").WithCause(err)
	}
	opts := append(messageLimits(), grpc.WithTransportCredentials(creds), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dialAddress(ctx, network, target) }))
	conn, err := grpc.NewClient("passthrough:///"+target, opts...)
	if err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, op, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &addressLink{conn: conn, gone: make(chan struct{}), cancel: cancel}
	l.wg.Go(func() { l.watch(ctx) })
	return l, nil
}

func credentialsFor(spec Spec, network, target string) (credentials.TransportCredentials, error) {
	switch {
	case network == "unix" && target != "":
		return insecure.NewCredentials(), nil
	case network != "tcp":
		return nil, fmt.Errorf("%q: want unix:///PATH or tcp://HOST:PORT", spec.Address)
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	if spec.TLS != (TLS{}) {
		return spec.TLS.credentials(host)
	}
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return insecure.NewCredentials(), nil
	}
	return nil, fmt.Errorf("%s is on another machine: tls is needed", target)
}

func (t TLS) credentials(host string) (credentials.TransportCredentials, error) {
	config := &tls.Config{ServerName: orDefault(t.ServerName, host), MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate", t.CA)
		}
	}
	if t.Cert != "" || t.Key != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return credentials.NewTLS(config), nil
}

// dialAddress connects; at a unix socket the other side must be this user or root.
func dialAddress(ctx context.Context, network, target string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, target)
	if err != nil || network != "unix" {
		return conn, err
	}
	uid, err := peerUser(conn.(*net.UnixConn))
	if err == nil && uid != 0 && uid != os.Geteuid() {
		err = fmt.Errorf("%s is served by user %d, not by root or by user %d", target, uid, os.Geteuid())
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// watch closes gone when a connection that once stood is lost.
func (l *addressLink) watch(ctx context.Context) {
	state, stood := l.conn.GetState(), false
	for {
		stood = stood || state == connectivity.Ready
		if stood && state != connectivity.Ready {
			close(l.gone)
			return
		}
		if !l.conn.WaitForStateChange(ctx, state) {
			return
		}
		state = l.conn.GetState()
	}
}

func (l *addressLink) raw() grpc.ClientConnInterface { return l.conn }
func (l *addressLink) lost() <-chan struct{}         { return l.gone }
func (l *addressLink) hide(map[string]string)        {}
func (l *addressLink) identity() identity            { return identity{} }

func (l *addressLink) fate() fate {
	if isClosed(l.gone) {
		return fate{status: "connection lost"}
	}
	return fate{}
}

// end closes the connection. Whoever runs the backend goes on running it.
func (l *addressLink) end(context.Context, Timing) {
	l.cancel()
	_ = l.conn.Close()
	l.wg.Wait()
}
