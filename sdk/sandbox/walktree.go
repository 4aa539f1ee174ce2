package sandbox

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// groupVariable marks the commands of a walked tree's groups in their environment: "NONCE/GROUP".
const groupVariable = "OPENHANDS_RT_GROUP"

// walkTree holds a tree without a cgroup: it is all descendants of this process, which is their subreaper, so that nobody
// escapes by losing a parent. A process belongs to the group of its nearest ancestor that Start started; one that was orphaned,
// to the group whose session it is in, else to that which its environment names, else to the tree itself.
//
// Weaker than a cgroup: stopping is done with SIGSTOP, which parents can see; a process that is orphaned, leaves its session
// and clears its environment is no longer known to be of its group, though still of the tree.
type walkTree struct {
	self    int
	nonce   string
	starter *starter
	reaper  *reaper
	marker  marker
	log     hclog.Logger

	mu sync.Mutex
	// groups maps the first processes of the groups, which lead the groups' sessions, to the groups' names.
	groups map[int]leader
	// stopped are the processes that Freeze stopped, for Thaw; nil while the tree is not frozen.
	stopped map[int]uint64
	closed  bool
}

// leader is one command that Start started in a group.
type leader struct {
	group string
	start uint64
}

func newWalkTree(s *starter, log hclog.Logger) *walkTree {
	t := &walkTree{self: os.Getpid(), nonce: rand.Text(), starter: s, marker: newMarker(), log: log, groups: map[int]leader{}}
	t.reaper = newReaper(t.holds)
	return t
}

// holds reports whether a dead child is an orphan of the tree: all that Start starts leaves this process's session.
func (t *walkTree) holds(pid int) bool {
	own, err := readStat(t.self)
	if err != nil {
		return false
	}
	st, err := readStat(pid)
	return err == nil && st.ppid == t.self && st.session != own.session
}

func (t *walkTree) Kind() string { return KindWalk }

func (t *walkTree) Mark() Mark { return t.marker.now() }

func (t *walkTree) Start(cmd *exec.Cmd, group string) error {
	const op = "start in process tree"
	if err := checkGroup(group); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped != nil {
		return rterr.New(rterr.SandboxPaused, op, "the sandbox is frozen").WithRan(rterr.RanNo)
	}
	ownSession(cmd)
	if group != "" {
		cmd.Env = append(cmd.Environ(), groupVariable+"="+t.nonce+"/"+group)
	}
	if err := t.reaper.start(t.starter, cmd); err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	if group == "" {
		return nil
	}
	st, err := readStat(cmd.Process.Pid) // A zombie until the caller waits, so it is there.
	if err == nil {
		t.groups[st.pid] = leader{group: group, start: st.start}
	}
	return nil
}

func (t *walkTree) Signal(group string, sig syscall.Signal) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.signal(sig, func(s stat, of string) bool { return of == group }), nil
}

func (t *walkTree) SignalSince(since Mark, sig syscall.Signal, spare ...int) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.signal(sig, func(s stat, of string) bool {
		return of == "" && since.before(s) && !slices.Contains(spare, s.pid)
	}), nil
}

// signal stops what is wanted, signals it, and lets it go on.
func (t *walkTree) signal(sig syscall.Signal, want func(s stat, group string) bool) int {
	stopped := t.stopAll(want)
	n := 0
	for _, s := range t.members(want) {
		if sendSignal(s.pid, s.start, sig) {
			n++
		}
	}
	if t.stopped == nil {
		contAll(stopped)
	}
	return n
}

// members returns the live processes that are wanted, parents before their children.
func (t *walkTree) members(want func(s stat, group string) bool) []stat {
	all := snapshot()
	children := map[int][]stat{}
	for _, s := range all {
		children[s.ppid] = append(children[s.ppid], s)
	}
	type node struct {
		stat
		group string
	}
	var found []stat
	queue := []node{}
	for _, s := range children[t.self] {
		queue = append(queue, node{s, t.groupOfChild(s)})
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if !n.dead() && want(n.stat, n.group) {
			found = append(found, n.stat)
		}
		for _, s := range children[n.pid] {
			queue = append(queue, node{s, t.groupOf(s, n.group)})
		}
	}
	return found
}

// groupOf returns the group of a process whose parent is of the group inherited.
func (t *walkTree) groupOf(s stat, inherited string) string {
	if l, ok := t.groups[s.pid]; ok && l.start == s.start {
		return l.group
	}
	return inherited
}

// groupOfChild returns the group of a child of this process: a leader, or an orphan.
func (t *walkTree) groupOfChild(s stat) string {
	if group := t.groupOf(s, ""); group != "" {
		return group
	}
	if l, ok := t.groups[s.session]; ok && s.start >= l.start {
		return l.group
	}
	return t.marked(s.pid)
}

// marked returns the group that a process's first environment names, if it is still a group.
func (t *walkTree) marked(pid int) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	mark := []byte(groupVariable + "=" + t.nonce + "/")
	for entry := range bytes.SplitSeq(raw, []byte{0}) {
		name, ok := bytes.CutPrefix(entry, mark)
		if ok && t.isGroup(string(name)) {
			return string(name)
		}
	}
	return ""
}

func (t *walkTree) isGroup(name string) bool {
	for _, l := range t.groups {
		if l.group == name {
			return true
		}
	}
	return false
}

// stopAll stops what is wanted and repeats until nothing new turns up and all of it stands still. It returns those that it
// stopped, not those that stood still before. Stopping takes microseconds, so the rounds yield but never sleep.
func (t *walkTree) stopAll(want func(s stat, group string) bool) map[int]uint64 {
	stopped := map[int]uint64{}
	for range stopRounds {
		still := true
		for _, s := range t.members(want) {
			if s.stopped() {
				continue
			}
			still = false
			if _, again := stopped[s.pid]; !again && sendSignal(s.pid, s.start, unix.SIGSTOP) {
				stopped[s.pid] = s.start
			}
		}
		if still {
			return stopped
		}
		runtime.Gosched()
	}
	t.log.Warn("signalled a process tree that did not stand still")
	return stopped
}

// contAll lets stopped processes go on, the youngest first: a parent that goes on before its child would see it stopped.
func contAll(stopped map[int]uint64) {
	pids := make([]int, 0, len(stopped))
	for pid := range stopped {
		pids = append(pids, pid)
	}
	slices.SortFunc(pids, func(a, b int) int {
		if stopped[a] != stopped[b] {
			return int(int64(stopped[b]) - int64(stopped[a]))
		}
		return b - a
	})
	for _, pid := range pids {
		sendSignal(pid, stopped[pid], unix.SIGCONT)
	}
}

func (t *walkTree) Forget(group string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid, l := range t.groups {
		if l.group == group {
			delete(t.groups, pid)
		}
	}
	return nil
}

func everything(stat, string) bool { return true }

func (t *walkTree) Freeze() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped != nil {
		return nil
	}
	stopped := t.stopAll(everything)
	for _, s := range t.members(everything) {
		if !s.stopped() {
			contAll(stopped)
			return rterr.New(rterr.Timeout, "freeze process tree", "process %d does not stop", s.pid)
		}
	}
	t.stopped = stopped
	return nil
}

func (t *walkTree) Thaw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	contAll(t.stopped)
	t.stopped = nil
	return nil
}

func (t *walkTree) Kill() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = nil
	killed := map[int]uint64{}
	for range killRounds * killRounds { // Each death may hand on a child that no scan saw.
		left := t.members(everything)
		if len(left) == 0 {
			return len(killed), nil
		}
		for _, s := range left {
			if sendSignal(s.pid, s.start, unix.SIGKILL) {
				killed[s.pid] = s.start
			}
		}
		waitGone(left, waitKilled)
	}
	return len(killed), rterr.New(rterr.Timeout, "kill process tree", "%d processes are left", len(t.members(everything)))
}

func (t *walkTree) Pids() ([]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var pids []int
	for _, s := range t.members(everything) {
		pids = append(pids, s.pid)
	}
	return pids, nil
}

func (t *walkTree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if left := t.members(everything); len(left) > 0 {
		return rterr.New(rterr.IllegalState, "close process tree", "%d processes are left", len(left))
	}
	t.closed = true
	t.reaper.close()
	t.marker.close()
	t.starter.close()
	return nil
}
