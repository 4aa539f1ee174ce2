package engine

import "time"

// Every wait of this package. All wait for an event; the numbers bound how long it may take.
const (
	// waitPipe: after a process has ended, how long what it started may go on writing to its stdout and stderr, or hold them open.
	waitPipe = 200 * time.Millisecond
	// waitTerminate: between the SIGTERM and the SIGKILL of a process whose timeout has passed.
	waitTerminate = 2 * time.Second
	// waitTask: how long the task of a further kind may take to return once its context has ended. A kernel that does not let itself
	// be interrupted must have been killed by then.
	waitTask = 15 * time.Second
	// waitInterrupted: after a SIGINT, before the first look whether it has missed. The next looks come after twice as long each,
	// but waitInterruptedMost at most, and after interruptTries looks (1.5 s) after waitInterruptedLong, for as long as it takes.
	waitInterrupted     = 25 * time.Millisecond
	waitInterruptedMost = 100 * time.Millisecond
	waitInterruptedLong = time.Second
	interruptTries      = 16
	// interruptPatience is how many looks a shell that took the signal has to end, before what it began gets it too.
	interruptPatience = 3
	// waitShellStopped: a shell stands still at once after SIGSTOP, unless it is frozen or sits in the kernel.
	waitShellStopped = 250 * time.Millisecond
	// waitShellKilled: after a KILL of a run action, how long the shell may take to be idle before it is killed too.
	waitShellKilled = 2 * time.Second
	// waitShellReady: a new shell's first report. It reads the user's ~/.bashrc before.
	waitShellReady = 30 * time.Second
)
