package serve

import (
	"context"
	"errors"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

// What host and plugin agree on before the first RPC.
const (
	// Protocol is the major version of backend.v1, negotiated by the handshake.
	Protocol = 1
	// PluginName is the name under which the one service is dispensed.
	PluginName = "backend"
	// MaxMessage is the largest gRPC message, both ways, on both sides. Larger things are streams.
	MaxMessage = 8 << 20

	cookieKey   = "OPENHANDS_RT_PLUGIN"
	cookieValue = "backend.v1"
)

// Environment variables that a host sets for its plugins.
const (
	// EnvLifeline is "stdin" when end of file on standard input means that the host is gone.
	EnvLifeline = "OPENHANDS_RT_LIFELINE"
	// EnvLogLevel is the least level that the plugin logs at: "trace" to "error".
	EnvLogLevel = "OPENHANDS_RT_LOG_LEVEL"
)

// Handshake returns what both sides compare before anything else. The cookie is a courtesy to people who start a plugin by
// hand, not a secret.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: Protocol, MagicCookieKey: cookieKey, MagicCookieValue: cookieValue}
}

// Plugins returns the plugin sets by protocol version. server is nil on the host's side.
func Plugins(server backendv1.BackendServiceServer) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{Protocol: {PluginName: &GRPCPlugin{server: server}}}
}

// GRPCPlugin is backend.v1 in go-plugin's terms.
type GRPCPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server backendv1.BackendServiceServer
}

var _ plugin.GRPCPlugin = (*GRPCPlugin)(nil)

// GRPCServer registers the service; called by go-plugin in the plugin.
func (p *GRPCPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	if p.server == nil {
		return errors.New("no backend to serve")
	}
	backendv1.RegisterBackendServiceServer(s, p.server)
	return nil
}

// GRPCClient returns a backendv1.BackendServiceClient; called by go-plugin in the host.
func (p *GRPCPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return backendv1.NewBackendServiceClient(conn), nil
}
