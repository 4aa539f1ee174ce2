package conformance

import "time"

// The waits of this package. None of them is a measure of speed: each is how long a right backend can never take, so that a
// wrong one fails instead of hanging.
const (
	// clauseLimit bounds one clause where the target names no timeout.
	clauseLimit = 2 * time.Minute
	// callLimit bounds one unary call.
	callLimit = 30 * time.Second
	// cleanLimit bounds what is closed after a clause, whatever became of the clause.
	cleanLimit = 30 * time.Second
	// sandboxLease is the lease of the suite's sandboxes: a suite that dies leaves nothing for longer.
	sandboxLease = 10 * time.Minute
	// shortLease is the lease that is let run out.
	shortLease = 3 * time.Second
	// pastLease is how long a renewed sandbox is watched beyond the lease that it had before.
	pastLease = shortLease + 2*time.Second
	// pauseLength is how long a counter is held; pauseSeen is the hole in its lines that proves it.
	pauseLength = 1500 * time.Millisecond
	pauseSeen   = 1200 * time.Millisecond
	// heartbeatLimit is the 15 s of the contract and a margin for a loaded machine.
	heartbeatLimit = 15*time.Second + 5*time.Second
	// cancelGrace is how long a plugin may clean up after a cancelled Connect, looked for every cancelLook.
	cancelGrace = 10 * time.Second
	cancelLook  = 200 * time.Millisecond
	// agentLimit bounds how an agent that outlived its Close is ended.
	agentLimit = 10 * time.Second
	// deadlineSkew is how much earlier than this side a plugin may see a deadline pass.
	deadlineSkew = time.Second
	// shortTimeout is the hard timeout of the actions that are made to run into it.
	shortTimeout = time.Second
)
