package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// cgroupTree holds a tree in a cgroup v2: a leaf "main" for what is in no group, and a leaf "g-NAME" for each group. Nothing
// lives in the root itself, so that controllers may be switched on below it.
type cgroupTree struct {
	root cgroup
	// path of the root in its mount, as /proc/PID/cgroup has it.
	path    string
	main    cgroup
	starter *starter
	reaper  *reaper
	marker  marker
	log     hclog.Logger

	// mu is held while a command starts and while the tree is stopped for a signal: a child that starts in a frozen cgroup
	// would hold its parent's thread until the thaw.
	mu     sync.Mutex
	groups map[string]cgroup
	frozen bool
	closed bool
}

func newCgroupTree(dir string, s *starter, log hclog.Logger) (*cgroupTree, error) {
	t := &cgroupTree{root: cgroup(dir), main: cgroup(filepath.Join(dir, "main")), starter: s, log: log, groups: map[string]cgroup{}}
	_ = os.Remove(string(t.main)) // One that an earlier agent killed is no good (renew); one with processes stays.
	if err := os.MkdirAll(string(t.main), 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err != nil {
		return nil, fmt.Errorf("not a cgroup v2 with cgroup.kill: %w", err)
	}
	var err error
	if t.path, err = pathInMount(dir); err != nil {
		return nil, err
	}
	t.marker = newMarker()
	t.reaper = newReaper(t.holds)
	return t, nil
}

// holds reports whether a process, dead or alive, is in the tree.
func (t *cgroupTree) holds(pid int) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(raw) {
		path, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::")
		if !ok {
			continue
		}
		path = strings.TrimSuffix(path, " (deleted)")
		return path == t.path || strings.HasPrefix(path, t.path+"/")
	}
	return false
}

func (t *cgroupTree) Kind() string { return KindCgroup2 }

func (t *cgroupTree) Mark() Mark { return t.marker.now() }

func (t *cgroupTree) Start(cmd *exec.Cmd, group string) error {
	const op = "start in process tree"
	if err := checkGroup(group); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return rterr.New(rterr.SandboxPaused, op, "the sandbox is frozen").WithRan(rterr.RanNo)
	}
	dir, made, err := t.groupDir(group)
	if err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	err = t.startIn(cmd, dir)
	if err != nil && made {
		delete(t.groups, group)
		err = errors.Join(err, dir.remove())
	}
	return rterr.Wrap(rterr.Internal, op, err)
}

// groupDir returns the cgroup of a group and whether it had to be made.
func (t *cgroupTree) groupDir(group string) (dir cgroup, made bool, err error) {
	if group == "" {
		return t.main, false, nil
	}
	if dir, ok := t.groups[group]; ok {
		return dir, false, nil
	}
	dir = cgroup(filepath.Join(string(t.root), "g-"+group))
	if err := os.Mkdir(string(dir), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", false, fmt.Errorf("make cgroup: %w", err)
	}
	t.groups[group] = dir
	return dir, true, nil
}

func (t *cgroupTree) startIn(cmd *exec.Cmd, dir cgroup) error {
	fd, err := unix.Open(string(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	defer unix.Close(fd)
	ownSession(cmd)
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = fd
	return t.reaper.start(t.starter, cmd)
}

func (t *cgroupTree) Signal(group string, sig syscall.Signal) (int, error) {
	if group == "" {
		return t.SignalSince(Mark{}, sig)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, ok := t.groups[group]
	if !ok {
		return 0, nil
	}
	n := 0
	err := t.whileStopped(dir, func() error {
		pids, err := dir.allPids(nil)
		n = signalAll(pids, sig)
		return err
	})
	return n, rterr.Wrap(rterr.Internal, "signal group", err)
}

func (t *cgroupTree) SignalSince(since Mark, sig syscall.Signal, spare ...int) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	err := t.whileStopped(t.root, func() error {
		pids, err := t.root.allPids(t.isGroup)
		pids = slices.DeleteFunc(pids, func(pid int) bool { return slices.Contains(spare, pid) || !began(since, pid) })
		n = signalAll(pids, sig)
		return err
	})
	return n, rterr.Wrap(rterr.Internal, "signal process tree", err)
}

// whileStopped does something while a cgroup stands still. What cannot be stopped in time (a process that sits in the kernel) is
// signalled all the same: a fork may then be missed, but not the process.
func (t *cgroupTree) whileStopped(dir cgroup, do func() error) error {
	if t.frozen && dir == t.root {
		return do()
	}
	if err := dir.freeze(waitSignalFrozen); err != nil {
		if !rterr.Is(err, rterr.Timeout) {
			return err
		}
		t.log.Warn("signalled a process tree that did not stop in time", "error", err)
		return do()
	}
	return errors.Join(do(), dir.write("cgroup.freeze", "0"))
}

func (t *cgroupTree) isGroup(dir cgroup) bool {
	name, ok := strings.CutPrefix(filepath.Base(string(dir)), "g-")
	return ok && t.groups[name] == dir
}

// began reports whether a process began after the mark; one that is gone did not.
func began(since Mark, pid int) bool {
	st, err := readStat(pid)
	return err == nil && since.before(st)
}

// signalAll returns how many there still were.
func signalAll(pids []int, sig syscall.Signal) int {
	n := 0
	for _, pid := range pids {
		if unix.Kill(pid, sig) == nil {
			n++
		}
	}
	return n
}

func (t *cgroupTree) Forget(group string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, ok := t.groups[group]
	if !ok {
		return nil
	}
	delete(t.groups, group)
	return rterr.Wrap(rterr.Internal, "forget group", t.dissolve(dir))
}

// dissolve moves what is left of a cgroup to main and removes it. What forks between the look and the move is found by the next
// look: the move itself takes the whole process.
func (t *cgroupTree) dissolve(dir cgroup) error {
	err := os.Remove(string(dir))
	for range stopRounds {
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		pids, listErr := dir.allPids(nil)
		if listErr != nil {
			return listErr
		}
		for _, pid := range pids {
			if moveErr := t.main.write("cgroup.procs", strconv.Itoa(pid)); moveErr != nil && !errors.Is(moveErr, unix.ESRCH) {
				return fmt.Errorf("move to main: %w", moveErr)
			}
		}
		err = dir.remove()
	}
	return err
}

func (t *cgroupTree) Freeze() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return nil
	}
	err := t.root.freeze(waitFrozen)
	t.frozen = err == nil
	return rterr.Wrap(rterr.Internal, "freeze process tree", err)
}

func (t *cgroupTree) Thaw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return rterr.Wrap(rterr.Internal, "thaw process tree", t.thaw())
}

func (t *cgroupTree) thaw() error {
	err := t.root.thaw(waitFrozen)
	if err == nil {
		t.frozen = false
	}
	return err
}

func (t *cgroupTree) Kill() (int, error) {
	const op = "kill process tree"
	t.mu.Lock()
	defer t.mu.Unlock()
	killed := 0
	var err error
	for range killRounds {
		pids, listErr := t.root.allPids(nil)
		if listErr != nil {
			return killed, rterr.Wrap(rterr.Internal, op, listErr)
		}
		if len(pids) == 0 {
			return killed, rterr.Wrap(rterr.Internal, op, errors.Join(t.thaw(), t.renew()))
		}
		killed += len(pids)
		if err = t.root.killAll(waitKilled); err != nil && !rterr.Is(err, rterr.Timeout) {
			return killed, rterr.Wrap(rterr.Internal, op, err)
		}
	}
	left, listErr := t.root.allPids(nil)
	if len(left) == 0 && listErr == nil {
		return killed, rterr.Wrap(rterr.Internal, op, errors.Join(t.thaw(), t.renew()))
	}
	return killed, rterr.New(rterr.Timeout, op, "%d processes are left", len(left)).WithCause(errors.Join(err, listErr))
}

// renew makes the leaves again after a kill: Linux up to 6.18 at least compares the number of kills of the cgroup that a clone
// comes from with that of the one it goes to, and kills what is started in a cgroup that was ever killed.
func (t *cgroupTree) renew() error {
	leaves := append(slices.Collect(maps.Values(t.groups)), t.main)
	for _, dir := range leaves {
		if err := dir.remove(); err != nil {
			return err
		}
		if err := os.Mkdir(string(dir), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

func (t *cgroupTree) Pids() ([]int, error) {
	pids, err := t.root.allPids(nil)
	return pids, rterr.Wrap(rterr.Internal, "list process tree", err)
}

func (t *cgroupTree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if err := t.root.remove(); err != nil {
		return rterr.Wrap(rterr.IllegalState, "close process tree", err)
	}
	t.closed = true
	t.reaper.close()
	t.marker.close()
	t.starter.close()
	return nil
}
