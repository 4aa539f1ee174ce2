package sandbox

import "time"

// Every wait of this package. All of them wait for an event of the kernel; the numbers bound how long it may take.
const (
	// waitFrozen: a cgroup's processes reach a stop within milliseconds, unless one sits in the kernel.
	waitFrozen = 2 * time.Second
	// waitSignalFrozen: how long a signal waits for the stop that rules a fork out, before it is sent without.
	waitSignalFrozen = 250 * time.Millisecond
	// waitKilled: one round of Kill.
	waitKilled = 2 * time.Second
	// killRounds bounds Kill against what is started while it works.
	killRounds = 5
	// stopRounds bounds the scans for a walked tree that stands still.
	stopRounds = 200
	// probeTime bounds one trial of a probe.
	probeTime = 5 * time.Second
)
