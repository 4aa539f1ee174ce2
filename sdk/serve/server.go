package serve

import (
	"context"
	"crypto/rand"
	"runtime/debug"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

const modulePath = "github.com/openhands-rt/openhands-rt"

// backend is the author's server with what every plugin answers alike: its identity and Drain.
type backend struct {
	backendv1.BackendServiceServer
	gate     *gate
	name     string
	version  string
	instance string
}

func newBackend(o Options, logger hclog.Logger) (*backend, error) {
	server, err := o.New(Env{Logger: logger})
	if err != nil {
		return nil, err
	}
	return &backend{
		BackendServiceServer: server, gate: newGate(), name: o.Name, version: o.Version, instance: rand.Text(),
	}, nil
}

// Describe fills in whatever the author left empty.
func (b *backend) Describe(ctx context.Context, req *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	answer, err := b.BackendServiceServer.Describe(ctx, req)
	if err != nil {
		return nil, err
	}
	if answer.GetName() == "" {
		answer.Name = b.name
	}
	if answer.GetVersion() == "" {
		answer.Version = b.version
	}
	if answer.GetSdkVersion() == "" {
		answer.SdkVersion = sdkVersion()
	}
	if answer.GetProtocol() == 0 {
		answer.Protocol = Protocol
	}
	if answer.GetInstance() == "" {
		answer.Instance = b.instance
	}
	return answer, nil
}

// Drain is the SDK's own, then the author's where there is one.
func (b *backend) Drain(ctx context.Context, req *backendv1.DrainRequest) (*backendv1.DrainResponse, error) {
	if err := b.gate.drain(ctx); err != nil {
		return nil, err
	}
	answer, err := b.BackendServiceServer.Drain(ctx, req)
	if status.Code(err) == codes.Unimplemented {
		return &backendv1.DrainResponse{}, nil
	}
	return answer, err
}

// sdkVersion is the version of this module in the plugin's build, "(devel)" if it is built from a work tree.
func sdkVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			return dep.Version
		}
	}
	return info.Main.Version
}

// newServer returns a gRPC server with the house rules; extra options come last.
func newServer(g *gate, logger hclog.Logger, extra ...grpc.ServerOption) *grpc.Server {
	guard := &guard{gate: g, logger: logger.Named("rpc")}
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.ConnectionTimeout(handshakeLimit),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.ChainUnaryInterceptor(guard.unary),
		grpc.ChainStreamInterceptor(guard.stream),
	}, extra...)...)
}

// stop ends a server in order: refuse new sandboxes and let calls finish within ctx, cancel what is left, flush, close.
func stop(ctx context.Context, g *gate, server *grpc.Server, logger hclog.Logger) {
	if err := g.drain(ctx); err != nil {
		logger.Warn("calls did not finish in time, they are cut", "error", err)
	}
	// The caller's patience is used up by now; what follows has limits of its own.
	cutCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := g.shut(cutCtx); err != nil {
		logger.Warn("cancelled calls do not return", "error", err)
	}
	flushed := make(chan struct{})
	go func() { defer close(flushed); server.GracefulStop() }()
	select {
	case <-flushed:
	case <-cutCtx.Done():
		server.Stop()
		<-flushed
	}
}
