package client

import "time"

// The waits and bounds of this package.
const (
	// requestLimit bounds one try of a small request, as the vendor's clients do; transferLimit one of a file or a snapshot.
	requestLimit, transferLimit = 30 * time.Second, 10 * time.Minute
	// holdSlack is what a long poll may take beyond the hold that it asks for.
	holdSlack = 10 * time.Second
	// DevboxHold and executionHold are how long the API holds a long poll: a little less than its own limits (30 s and 25 s), after
	// which connections have been seen cut.
	DevboxHold, executionHold = 25 * time.Second, 20 * time.Second
	// dialLimit bounds one connection, tlsLimit its handshake, headerLimit nothing: tries have limits of their own.
	dialLimit, tlsLimit = 5 * time.Second, 10 * time.Second
	// idleLimit is how long unused connections are kept.
	idleLimit = 90 * time.Second
	// pingAfter and pingLimit find out that an HTTP/2 connection is dead.
	pingAfter, pingLimit = 15 * time.Second, 10 * time.Second
	// maxAnswer is the largest answer that is no stream, in bytes; maxReason what is kept of an error's text.
	maxAnswer, maxReason = 64 << 20, 500
	// maxRetryAfter is the longest Retry-After that is obeyed; the vendor's clients do the same.
	maxRetryAfter = 60 * time.Second
	// maxLine is the longest line of an event stream, in bytes.
	maxLine = 8 << 20
)
