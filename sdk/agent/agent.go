// Package agent holds the words that the sandbox agent's server and client share. The server is sdk/agent/server, the client
// sdk/agent/client; what runs actions behind the server is sdk/agent/engine.
//
// Nothing under sdk/agent imports go-plugin, grpc, koanf or NATS: the agent stays small.
package agent

import (
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// Stream is the events of one action, in the order that agent.v1 ActionEvent gives.
type Stream interface {
	// Recv blocks for the next event. After the observation it returns io.EOF; a cut stream is an *rterr.Error (Network,
	// SandboxUnreachable), and Attach with the next offsets goes on where it was cut. Not for concurrent use.
	Recv() (*agentv1.ActionEvent, error)
	// Close ends the stream, not the action. Safe to call twice, and while Recv blocks.
	Close() error
}

// CredentialHeader carries "Bearer CREDENTIAL" on every request to an agent.
const CredentialHeader = "Authorization"

// Paths of what the agent serves beside its RPCs.
const (
	FilesPath = "/files"
	PortsPath = "/ports/"
	// V0Path is where the paths of OpenHands' V0 protocol begin, as /v0/list_files. Behind the agent's credential, no session key
	// is asked for: whoever has the credential checks it.
	V0Path = "/v0/"
)

// UploadOffsetHeader is the number of bytes of an upload that have arrived; DigestTrailer is "sha-256=:BASE64:" (RFC 9530).
const (
	UploadOffsetHeader = "Upload-Offset"
	DigestTrailer      = "Repr-Digest"
)
