package engine

import "time"

// Every wait of this package. All wait for an event; the numbers bound how long it may take.
const (
	// waitPipe: after a process has ended, how long what it started may go on writing to its stdout and stderr, or hold them open.
	waitPipe = 200 * time.Millisecond
	// waitTerminate: between the SIGTERM and the SIGKILL of a process whose timeout has passed.
	waitTerminate = 2 * time.Second
	// waitShellKilled: after a KILL of a run action, how long the shell may take to be idle before it is killed too.
	waitShellKilled = 500 * time.Millisecond
	// waitShellReady: a new shell's first report. It reads the user's ~/.bashrc before.
	waitShellReady = 30 * time.Second
)
