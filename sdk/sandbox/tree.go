// Package sandbox holds what a backend on a Linux machine needs to wall a process tree in and to hold all of it: cgroups,
// namespaces, start times, and probes that find out by trying what the machine allows.
//
// The agent and local backends import it; it imports neither.
package sandbox

import (
	"os/exec"
	"syscall"
)

// Mark is a moment in the life of a machine, for telling processes that began before it from those that began after.
type Mark struct {
	// Ticks since boot, in the unit of /proc/PID/stat's start time.
	Ticks uint64
}

// Tree holds every process of one sandbox but the agent, whatever session, group or parent a process has chosen.
// All methods may be called from any goroutine.
type Tree interface {
	// Kind is "cgroup2" where a cgroup holds the tree, or "walk" where it is found through /proc (the agent is its subreaper).
	Kind() string
	// Start starts cmd in the tree, in a named group of its own; "" is the tree itself. SysProcAttr may be set before.
	Start(cmd *exec.Cmd, group string) error
	// Mark returns the present moment.
	Mark() Mark
	// Signal sends sig to every process of the group, without a race against fork (frozen meanwhile where possible), and
	// returns how many there were. A group that is not there has none.
	Signal(group string, sig syscall.Signal) (int, error)
	// SignalSince sends sig to every process outside the named groups that began at or after since, but never to the spared.
	SignalSince(since Mark, sig syscall.Signal, spare ...int) (int, error)
	// Forget gives up a group's name; what still runs in it belongs to the tree itself from then on.
	Forget(group string) error
	// Freeze stops every process; Thaw lets them go on. Both idempotent; both return when it is done.
	Freeze() error
	Thaw() error
	// Kill ends every process, thawing as needed, repeats until none is left or ctx-free bound of rounds is reached, and returns how many
	// were killed.
	Kill() (int, error)
	// Pids returns every live process of the tree.
	Pids() ([]int, error)
	// Close releases what the tree itself holds (an empty cgroup). The processes must be gone.
	Close() error
}
