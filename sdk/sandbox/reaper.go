package sandbox

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper reaps the orphans that a subreaper adopts, and nothing else: neither what start started (its Cmd waits for it), nor
// anything that adopted says is not of the tree.
type reaper struct {
	// adopted reports whether a dead child that nobody here started belongs to the tree.
	adopted func(pid int) bool
	// notify gets SIGCHLD; closing stop ends the goroutine, which closes done.
	notify chan os.Signal
	stop   chan struct{}
	done   chan struct{}

	mu sync.Mutex
	// own are the children whose Cmd waits for them.
	own map[int]bool
}

func newReaper(adopted func(pid int) bool) *reaper {
	r := &reaper{adopted: adopted, notify: make(chan os.Signal, 1), stop: make(chan struct{}), done: make(chan struct{}),
		own: map[int]bool{}}
	signal.Notify(r.notify, unix.SIGCHLD)
	go r.run()
	return r
}

func (r *reaper) run() {
	defer close(r.done)
	for {
		select {
		case <-r.notify:
			r.reap()
		case <-r.stop:
			return
		}
	}
}

func (r *reaper) close() {
	signal.Stop(r.notify)
	close(r.stop)
	<-r.done
	r.reap()
}

// start starts cmd so that a death at once is not taken for an orphan's.
func (r *reaper) start(s *starter, cmd *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := s.start(cmd)
	if err == nil {
		r.own[cmd.Process.Pid] = true
	}
	return err
}

// reap looks at every child. Signals of several deaths come as one, so all of them are looked at.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	children := childrenOf(os.Getpid())
	r.forgetWaited(children)
	for pid := range children {
		if r.own[pid] || !isZombie(pid) || !r.adopted(pid) {
			continue
		}
		var status unix.WaitStatus
		for {
			if _, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); err != unix.EINTR {
				break
			}
		}
	}
}

// forgetWaited drops own children that have been waited for: their pids may come again as orphans'. The list may lack a child
// while another one leaves it, so the kernel is asked.
func (r *reaper) forgetWaited(children map[int]bool) {
	for pid := range r.own {
		if !children[pid] && !isChild(pid) {
			delete(r.own, pid)
		}
	}
}

func isChild(pid int) bool {
	var info unix.Siginfo
	return unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil
}

// isZombie asks without reaping.
func isZombie(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == int32(unix.SIGCHLD)
}

// childrenOf returns the children of a process, zombies among them: from its threads' lists where the kernel keeps them, else
// by a look at every process.
func childrenOf(pid int) map[int]bool {
	children := map[int]bool{}
	lists, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil || len(lists) == 0 {
		for child, st := range snapshot() {
			if st.ppid == pid {
				children[child] = true
			}
		}
		return children
	}
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil {
			continue // The thread has ended; its children are in another's list, and their death sends a signal again.
		}
		for _, field := range bytes.Fields(raw) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				children[child] = true
			}
		}
	}
	return children
}
