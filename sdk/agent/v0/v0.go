// Package v0 is OpenHands' V0 action execution protocol over HTTP: the decoding of its requests, the bytes of its answers and
// errors, and a Handler that serves it for one sandbox. The strings in it are read by OpenHands' client and by models; they must
// not be changed.
//
// The agent's server serves the Handler; a door of the host that speaks the protocol for many sandboxes uses the rest.
package v0

import "github.com/openhands-rt/openhands-rt/sdk/action"

// KeyHeader carries the session key of a sandbox.
const KeyHeader = "X-Session-API-Key"

// The paths of the protocol, below the URL of a sandbox.
const (
	PathAlive           = "/alive"
	PathServerInfo      = "/server_info"
	PathExecuteAction   = "/execute_action"
	PathUpdateMCP       = "/update_mcp_server"
	PathUploadFile      = "/upload_file"
	PathDownloadFiles   = "/download_files"
	PathListFiles       = "/list_files"
	PathConnectionToken = "/vscode/connection_token"
	PathMCP             = "/mcp/"
)

// MaxBody is the largest body of an /execute_action, in bytes. The args may have action.MaxPayload of it; the rest is what clients
// send along for themselves, a whole answer of a model among it.
const MaxBody = 4 * action.MaxPayload

// Open reports whether a path is answered without a key: exactly two are.
func Open(path string) bool { return path == PathAlive || path == PathServerInfo }
