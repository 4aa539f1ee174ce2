package plugin

import "time"

// Every wait of this package that an operator does not set. Timing has the others.
const (
	// describeLimit bounds Describe, which never blocks on a provider.
	describeLimit = 10 * time.Second
	// clientLimit is how long Client waits for a plugin that is starting, or about to be.
	clientLimit = 15 * time.Second
	// shutdownLimit is what go-plugin's own shutdown may take before the process group gets SIGTERM.
	shutdownLimit = 3 * time.Second
	// termLimit is how long after SIGTERM the process group gets SIGKILL.
	termLimit = 2 * time.Second
	// reapLimit is how long a killed process may take to be gone (uninterruptible sleep), and go-plugin to let go of it.
	reapLimit = 5 * time.Second
	// pipeLimit is how long after a plugin's death its pipes are read on: what it wrote is there at once, but another process may
	// hold them open for ever.
	pipeLimit = 200 * time.Millisecond
	// lossLimit is how long a call that lost its connection waits to learn that, and how, the plugin died.
	lossLimit = time.Second
)

// Bounds on what a plugin writes.
const (
	// maxLine is how much of one line is read; the rest of it is counted and thrown away.
	maxLine = 64 << 10
	// tailSize is how much of its last output is kept for each launch.
	tailSize = 64 << 10
	// panicSize is how much of a panic's text is kept.
	panicSize = 16 << 10
	// logRate and logBurst are bytes per second, and at once, that a plugin may add to the host's log.
	logRate  = 256 << 10
	logBurst = 2 << 20
	// lineCost is added to each line's length, so that empty lines are not free.
	lineCost = 64
	// evidenceLines and evidenceSize bound what of the last output travels with an error.
	evidenceLines = 12
	evidenceSize  = 2 << 10
	// maxFields is how many fields of a log line are kept.
	maxFields = 48
)

// maxSocketDir is the longest path of a folder of sockets: a socket's whole path must fit into 104 bytes on every system.
const maxSocketDir = 80
