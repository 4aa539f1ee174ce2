package serve

import "time"

// Every wait of a plugin's main.
const (
	// describeLimit bounds Describe for the "describe" command.
	describeLimit = 10 * time.Second
	// drainLimit is how long running calls may go on after SIGTERM or SIGINT.
	drainLimit = 10 * time.Second
	// orphanLimit is how long they may go on to clean up once the host is gone: nobody waits for their answers.
	orphanLimit = 5 * time.Second
	// stopLimit is how long the last answers may take to leave, and cancelled calls to return.
	stopLimit = 2 * time.Second
	// keepaliveMinTime is the shortest interval at which a host may ping.
	keepaliveMinTime = 5 * time.Second
	// keepaliveTime and keepaliveTimeout find hosts that are gone without closing their connection (TCP).
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// handshakeLimit bounds the TLS and HTTP/2 handshake of a connection.
	handshakeLimit = 10 * time.Second
	// certificateLife outlives any plugin process.
	certificateLife = 10 * 365 * 24 * time.Hour
)

// stackTop is how much of a panic's stack travels as evidence; the log has all of it.
const stackTop = 2 << 10
