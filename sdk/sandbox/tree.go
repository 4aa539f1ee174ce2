// Package sandbox holds what a backend on a Linux machine needs to wall a process tree in and to hold all of it: cgroups,
// namespaces, start times, and probes that find out by trying what the machine allows.
//
// The agent and local backends import it; it imports neither.
package sandbox

import (
	"os/exec"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Mark is a moment in the life of a machine, for telling processes that began before it from those that began after. It means
// nothing after a reboot, nor in another process.
type Mark struct {
	// Ticks since boot, in the unit of /proc/PID/stat's start time (a hundredth of a second).
	Ticks uint64
	// pid is the last one that was given out before the mark; it orders what began within one tick. 0: not known.
	pid int
}

// The kinds of Tree.
const (
	KindCgroup2 = "cgroup2"
	KindWalk    = "walk"
)

// Tree holds every process of one sandbox but the agent, whatever session, group or parent a process has chosen. The process
// that made the tree becomes a child subreaper and reaps the tree's orphans; it never reaps a command that Start started, so
// Cmd.Wait works as usual, nor one that was started by other means in the caller's own session.
//
// All methods may be called from any goroutine. None blocks for longer than the package's wait table says, none polls.
type Tree interface {
	// Kind is KindCgroup2 where a cgroup holds the tree, or KindWalk where it is found through /proc.
	Kind() string
	// Start starts cmd in the tree, in a named group of its own, which is made if it is not there; "" is the tree itself. The
	// command leads a session of its own, whatever SysProcAttr says about sessions and process groups; the rest of SysProcAttr
	// (Setctty, Ctty, Credential, ...) is kept. The caller waits for cmd, and forgets the group when it is done with it.
	// SandboxPaused while the tree is frozen; LimitExceeded when the tree may not have another process; InvalidArgument for a
	// group name that is not 1 to 128 of [A-Za-z0-9._:-]; else the error of cmd.Start, wrapped.
	Start(cmd *exec.Cmd, group string) error
	// Mark returns the present moment: what is started from now on began after it.
	Mark() Mark
	// Signal sends sig to every process of the group, without a race against fork (stopped meanwhile), and returns how many
	// there were. A group that is not there has none. "" means every process that is in no named group.
	Signal(group string, sig syscall.Signal) (int, error)
	// SignalSince sends sig to every process outside the named groups that began after the mark, but never to those whose pid
	// is spared, and returns how many there were. Without a race against fork, as Signal.
	SignalSince(since Mark, sig syscall.Signal, spare ...int) (int, error)
	// Forget gives up a group's name; what still runs in it belongs to the tree itself from then on. Unknown names are no error.
	Forget(group string) error
	// Freeze stops every process; Thaw lets them go on. Both idempotent; both return when it is done. A Freeze that cannot be
	// completed in time (a process that sits in the kernel) is Timeout, and the tree goes on unfrozen.
	Freeze() error
	Thaw() error
	// Kill ends every process, frozen or not, waits until none is left, and returns how many there were. It repeats a bounded
	// number of rounds for what is started meanwhile; if something is left even then, the error is Timeout with the count so far.
	// The tree is thawed afterwards and may be used again.
	Kill() (int, error)
	// Pids returns every live process of the tree, zombies not among them, in no order.
	Pids() ([]int, error)
	// Close releases what the tree itself holds (an empty cgroup, the reaper). The processes must be gone: IllegalState if not.
	// Idempotent. No other method may be called afterwards.
	Close() error
}

// TreeConfig says how a tree is held.
type TreeConfig struct {
	// Cgroup is the folder of a cgroup v2 that is the tree's alone; it is made if it is not there, and removed by Close. Empty:
	// the tree is found through /proc. There may be one such tree in a process, for it is all descendants of the process.
	Cgroup string
	// LimitGroups are folders of v1 cgroups (Placement.LimitGroups) that every process of the tree is started in.
	LimitGroups []string
	// Logger gets what no caller can be told; nil logs nothing.
	Logger hclog.Logger
}

// NewTree makes a tree and makes this process the subreaper of its orphans. The caller closes it.
// Unsupported if the cgroup cannot be used: there is no silent fall-back to walking, the caller decides.
func NewTree(cfg TreeConfig) (Tree, error) {
	const op = "hold process tree"
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if err := BecomeSubreaper(); err != nil {
		return nil, rterr.Wrap(rterr.Unsupported, op, err)
	}
	start, err := newStarter(cfg.LimitGroups)
	if err != nil {
		return nil, rterr.Wrap(rterr.Unsupported, op, err)
	}
	if cfg.Cgroup == "" {
		return newWalkTree(start, cfg.Logger), nil
	}
	t, err := newCgroupTree(cfg.Cgroup, start, cfg.Logger)
	if err != nil {
		start.close()
		return nil, rterr.Wrap(rterr.Unsupported, op, err)
	}
	return t, nil
}

// checkGroup refuses what cannot be a folder's name.
func checkGroup(group string) error {
	if group == "" || groupName(group) {
		return nil
	}
	return rterr.Invalid("start in process tree", "group", "must be 1 to 128 characters of [A-Za-z0-9._:-]")
}

// maxGroup is the longest name of a group, in bytes.
const maxGroup = 128

// groupName says what groups are named with. A regular expression with such a bound costs an agent a hundred kilobytes.
func groupName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '_' && c != ':' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxGroup
}

// ownSession gives cmd a session of its own. A process group of its own comes with it.
func ownSession(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	cmd.SysProcAttr.Setpgid = false
}
