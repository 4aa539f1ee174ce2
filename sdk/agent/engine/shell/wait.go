package shell

import "time"

// Every wait of this package. All wait for an event; the numbers bound how long it may take.
const (
	// waitBarrier: a barrier passes the terminal within microseconds, unless a program has flushed or stopped it.
	waitBarrier = 2 * time.Second
)
