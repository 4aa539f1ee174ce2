//go:build !linux

package plugin

import (
	"net"
	"os"
)

// peerUser cannot be asked here; the folder of the socket guards it.
func peerUser(*net.UnixConn) (int, error) { return os.Geteuid(), nil }
