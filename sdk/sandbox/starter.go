package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// starter starts commands inside v1 cgroups. A v2 cgroup is chosen at clone; a v1 one cannot be, but a child inherits the v1
// cgroups of the thread that forks it. So one thread of this process lives in them and does all the forking.
//
// The cpu controller is the exception: a thread of ours that is throttled while it holds the Go scheduler would stall the whole
// agent. Its groups are joined by the child right after the start, which loses nothing but the limit's first microseconds.
type starter struct {
	late []string
	jobs chan func()
	done chan struct{}
	once sync.Once
}

// newStarter returns a starter for the groups, nil when there are none: a nil starter forks wherever it is called.
func newStarter(groups []string) (*starter, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	s := &starter{jobs: make(chan func()), done: make(chan struct{})}
	var early []string
	for _, dir := range groups {
		if _, err := os.Stat(filepath.Join(dir, "cpu.cfs_quota_us")); err == nil {
			s.late = append(s.late, dir)
		} else {
			early = append(early, dir)
		}
	}
	ready := make(chan error, 1)
	go s.run(early, ready)
	if err := <-ready; err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// run owns the thread: it ends with this goroutine, which is why the lock is never undone.
func (s *starter) run(groups []string, ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The main thread cannot end, it would stay in the groups. While this goroutine holds it, another gets another thread.
		inner := make(chan error, 1)
		go s.run(groups, inner)
		ready <- <-inner
		runtime.UnlockOSThread()
		return
	}
	defer close(s.done)
	back := homeGroups(groups)
	err := joinAll(groups, unix.Gettid())
	ready <- err
	for job := range s.jobs {
		job()
	}
	// The thread ends a moment after this goroutine; until then it must not keep the groups from being removed.
	_ = joinAll(back, unix.Gettid()) // Where it cannot go back, its end does the same.
}

// homeGroups returns the folders of the groups that the calling thread is in, on the mounts of the given ones.
func homeGroups(groups []string) []string {
	raw, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil
	}
	var home []string
	for _, dir := range groups {
		rel, err := pathInMount(dir)
		if err != nil {
			continue
		}
		mount := strings.TrimSuffix(filepath.Clean(dir), rel)
		if path, ok := controllerPath(string(raw), filepath.Base(mount)); ok {
			home = append(home, filepath.Join(mount, path))
		}
	}
	return home
}

// controllerPath finds a controller in the lines "ID:CONTROLLERS:PATH" of /proc/PID/cgroup; the controller may be one of a
// list, or all of it. "" is the v2 hierarchy.
func controllerPath(lines, controller string) (string, bool) {
	for line := range strings.Lines(lines) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[1] == controller || slices.Contains(strings.Split(parts[1], ","), controller) {
			return parts[2], true
		}
	}
	return "", false
}

func joinAll(groups []string, tid int) error {
	for _, dir := range groups {
		f, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("join limit group: %w", err)
		}
		_, err = f.WriteString(strconv.Itoa(tid))
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("join limit group: %w", err)
		}
	}
	return nil
}

// start is cmd.Start inside the groups.
func (s *starter) start(cmd *exec.Cmd) error {
	if s == nil {
		return startError(cmd.Start())
	}
	result := make(chan error, 1)
	s.jobs <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return startError(err)
	}
	for _, dir := range s.late {
		err := cgroup(dir).write("cgroup.procs", strconv.Itoa(cmd.Process.Pid))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			_ = cmd.Process.Kill() // A command must not run without its limit.
			_ = cmd.Wait()
			return fmt.Errorf("join limit group: %w", err)
		}
	}
	return nil
}

// startError names what only a limit can cause: no other fork of this program is refused with EAGAIN.
func startError(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return rterr.New(rterr.LimitExceeded, "", "the sandbox may not have another process").WithCause(err).WithRan(rterr.RanNo)
	}
	return err
}

// close ends the thread. Not to be called while start runs.
func (s *starter) close() {
	if s == nil {
		return
	}
	s.once.Do(func() { close(s.jobs) })
	<-s.done
}
