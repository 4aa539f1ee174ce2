package engine

import "time"

// Every wait of this package. All wait for an event; the numbers bound how long it may take.
const (
	// waitPipe: after a process has ended, how long what it started may go on writing to its stdout and stderr, or hold them open.
	waitPipe = 200 * time.Millisecond
	// waitTerminate: between the SIGTERM and the SIGKILL of a process whose timeout has passed.
	waitTerminate = 2 * time.Second
	// waitForeground: how long a shell that was interrupted may take to start the program that it was about to start.
	waitForeground = 50 * time.Millisecond
	// waitShellInterrupted: after a KILL of a run action, how long the shell may take to be idle before it is interrupted itself;
	// waitShellKilled: and then before it is killed too.
	waitShellInterrupted = 200 * time.Millisecond
	waitShellKilled      = 500 * time.Millisecond
	// waitShellReady: a new shell's first report. It reads the user's ~/.bashrc before.
	waitShellReady = 30 * time.Second
)
