package launch

import (
	"fmt"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// lifelineEnv tells the plugin that end of file on its standard input means that this process is gone.
func lifelineEnv() string { return serve.EnvLifeline + "=stdin" }

// connection returns what go-plugin dialled. Everything after it is shared with dialled backends.
func connection(protocol goplugin.ClientProtocol) (*grpc.ClientConn, error) {
	client, ok := protocol.(*goplugin.GRPCClient)
	if !ok {
		return nil, fmt.Errorf("the plugin speaks %T, not gRPC", protocol)
	}
	return client.Conn, nil
}
