package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

// serveAddress is the "serve" command: the contract at a plain address until a signal comes.
func (m *program) serveAddress(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(m.Name+" serve", flag.ContinueOnError)
	flags.SetOutput(m.stderr)
	address := flags.String("address", "", "unix:///PATH or tcp://HOST:PORT; port 0 chooses one, the address is printed")
	cert := flags.String("tls-cert", "", "certificate file (PEM); needed for any TCP address but loopback")
	key := flags.String("tls-key", "", "key file of the certificate (PEM)")
	clientCA := flags.String("tls-client-ca", "", "file of the authority that clients' certificates must come from (PEM)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var opts []grpc.ServerOption
	if *cert != "" || *key != "" || *clientCA != "" {
		config, err := fileTLS(*cert, *key, *clientCA)
		if err != nil {
			return err
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}
	listener, err := listen(ctx, *address, len(opts) > 0 && *clientCA != "")
	if err != nil {
		return err
	}
	return m.serveOn(ctx, listener, opts)
}

func (m *program) serveOn(ctx context.Context, listener net.Listener, opts []grpc.ServerOption) error {
	logger := m.logger(false)
	b, err := newBackend(m.Options, logger)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := newServer(b.gate, logger, opts...)
	backendv1.RegisterBackendServiceServer(server, b)
	checks := health.NewServer()
	checks.SetServingStatus(plugin.GRPCServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(server, checks)
	reflection.Register(server)

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if _, err := fmt.Fprintf(m.stdout, "%s://%s\n", listener.Addr().Network(), listener.Addr()); err != nil {
		logger.Warn("print the address", "error", err)
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	stop(stopCtx, b.gate, server, logger)
	if err := <-failed; !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
		return err
	}
	return nil
}

// listen opens address. A unix socket lies in a folder that only this user may enter, made if need be; TCP is loopback alone
// unless clients are authenticated.
func listen(ctx context.Context, address string, authenticated bool) (net.Listener, error) {
	network, target, ok := strings.Cut(address, "://")
	if !ok || target == "" {
		return nil, fmt.Errorf("--address %q: want unix:///PATH or tcp://HOST:PORT", address)
	}
	var config net.ListenConfig
	switch network {
	case "unix":
		if err := privateFolder(filepath.Dir(target)); err != nil {
			return nil, err
		}
		return listenUnix(ctx, &config, target)
	case "tcp":
		if !authenticated && !isLoopback(target) {
			return nil, fmt.Errorf("--address %q: other machines could reach it; --tls-cert, --tls-key and --tls-client-ca are needed", address)
		}
		return config.Listen(ctx, network, target)
	default:
		return nil, fmt.Errorf("--address %q: unknown network %q", address, network)
	}
}

// listenUnix takes the place of a socket that nobody serves any more: one that was killed could not remove it.
func listenUnix(ctx context.Context, config *net.ListenConfig, path string) (net.Listener, error) {
	listener, err := config.Listen(ctx, "unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	var dialer net.Dialer
	conn, dialErr := dialer.DialContext(ctx, "unix", path)
	if dialErr == nil {
		_ = conn.Close()
		return nil, err
	}
	info, statErr := os.Lstat(path)
	if !errors.Is(dialErr, syscall.ECONNREFUSED) || statErr != nil || info.Mode().Type() != os.ModeSocket {
		return nil, err // not ours to remove
	}
	if removeErr := os.Remove(path); removeErr != nil {
		return nil, errors.Join(err, removeErr)
	}
	return config.Listen(ctx, "unix", path)
}

func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func privateFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("folder %s of the socket is open to other users (mode %#o): use one of mode 0700", dir, info.Mode().Perm())
	}
	return nil
}
