package sandbox

import (
	"bytes"
	"context"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// KillWithDescendants ends a subreaper's whole tree and then the subreaper itself, from outside: for an agent that no longer
// does it. The subreaper is stopped first, and dies last, so that orphans stay among its descendants. It returns how many were
// killed, and when all of them are gone or ctx is done (then with its error, or Timeout). No error if there is no such process.
func KillWithDescendants(ctx context.Context, pid int, start uint64) (int, error) {
	if !sendSignal(pid, start, unix.SIGSTOP) {
		return 0, nil
	}
	n, err := killUntilNone(ctx, func() []stat { return descendants(pid) })
	if sendSignal(pid, start, unix.SIGKILL) {
		n++
	}
	if err != nil {
		return n, err
	}
	return n, rterr.Wrap(rterr.Timeout, "kill process tree", WaitProcess(ctx, pid, start))
}

// KillMarked ends every process whose first environment has an entry "NAME=VALUE", as KillWithDescendants does: for what a
// walked tree left when its subreaper died. What cleared its environment is not found.
func KillMarked(ctx context.Context, entry string) (int, error) {
	return killUntilNone(ctx, func() []stat { return marked([]byte(entry)) })
}

// killUntilNone kills what find finds until it finds nothing.
func killUntilNone(ctx context.Context, find func() []stat) (int, error) {
	killed := map[int]uint64{}
	for range killRounds * killRounds {
		left := find()
		if len(left) == 0 {
			return len(killed), nil
		}
		for _, s := range left {
			if sendSignal(s.pid, s.start, unix.SIGKILL) {
				killed[s.pid] = s.start
			}
		}
		for _, s := range left {
			if err := WaitProcess(ctx, s.pid, s.start); err != nil {
				return len(killed), rterr.Wrap(rterr.Timeout, "kill process tree", err)
			}
		}
	}
	return len(killed), rterr.New(rterr.Timeout, "kill process tree", "%d processes are left", len(find()))
}

// descendants returns the live processes below a process.
func descendants(root int) []stat {
	all := snapshot()
	children := map[int][]stat{}
	for _, s := range all {
		children[s.ppid] = append(children[s.ppid], s)
	}
	var found []stat
	queue := []int{root}
	for len(queue) > 0 {
		for _, s := range children[queue[0]] {
			queue = append(queue, s.pid)
			if !s.dead() {
				found = append(found, s)
			}
		}
		queue = queue[1:]
	}
	return found
}

// marked returns the live processes that have an entry in their first environment.
func marked(entry []byte) []stat {
	var found []stat
	for pid, s := range snapshot() {
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil || s.dead() || pid == os.Getpid() {
			continue
		}
		for have := range bytes.SplitSeq(raw, []byte{0}) {
			if bytes.Equal(have, entry) {
				found = append(found, s)
				break
			}
		}
	}
	return found
}
