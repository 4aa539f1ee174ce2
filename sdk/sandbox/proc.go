package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tickNanos is the unit of start times in nanoseconds: USER_HZ is 100 on every Linux that Go runs on.
const tickNanos = 10_000_000

// StartTime returns when a process began, in ticks since boot. With BootID and the pid it names a process for ever: a pid alone
// is given out again. An error that is os.ErrNotExist means that there is no such process.
func StartTime(pid int) (uint64, error) {
	st, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	return st.start, nil
}

// Alive reports whether the very process that began at start runs still; a zombie does not.
func Alive(pid int, start uint64) bool {
	st, err := readStat(pid)
	return err == nil && st.start == start && !st.dead()
}

// BootID returns the id of this boot of the machine's kernel.
func BootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// SetNonDumpable hides this process's memory, descriptors and environment from other processes of the same user, and forbids
// core dumps. It is lost at exec.
func SetNonDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("set non-dumpable: %w", err)
	}
	return nil
}

// BecomeSubreaper makes this process the parent of every orphan among its descendants, for the rest of its life.
func BecomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}

// stat is what is needed of /proc/PID/stat.
type stat struct {
	pid, ppid, session int
	state              byte
	start              uint64
}

func (s stat) dead() bool    { return s.state == 'Z' || s.state == 'X' }
func (s stat) stopped() bool { return s.state == 'T' || s.state == 't' }

func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = os.ErrNotExist
		}
		return stat{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	return parseStat(raw)
}

// parseStat reads "PID (COMM) STATE PPID PGRP SESSION ... STARTTIME(22) ...". COMM may hold anything, ") R 1" too.
func parseStat(raw []byte) (stat, error) {
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 1 || end < open {
		return stat{}, errors.New("malformed process stat")
	}
	fields := bytes.Fields(raw[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return stat{}, errors.New("short process stat")
	}
	var s stat
	var errs [4]error
	s.state = fields[0][0]
	s.pid, errs[0] = strconv.Atoi(string(bytes.TrimSpace(raw[:open])))
	s.ppid, errs[1] = strconv.Atoi(string(fields[1]))
	s.session, errs[2] = strconv.Atoi(string(fields[3]))
	s.start, errs[3] = strconv.ParseUint(string(fields[19]), 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return stat{}, fmt.Errorf("malformed process stat: %w", err)
	}
	return s, nil
}

// marker makes marks. It keeps /proc/loadavg open: to open a file of /proc costs several times what it costs to read it.
type marker struct {
	// loadavg is -1 if it cannot be read.
	loadavg int
}

func newMarker() marker {
	fd, err := unix.Open("/proc/loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return marker{loadavg: -1}
	}
	return marker{loadavg: fd}
}

// now returns the present moment.
func (m marker) now() Mark {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return Mark{} // Cannot fail on a kernel that has cgroup v2; a zero mark means "since boot".
	}
	return Mark{Ticks: uint64(ts.Nano()) / tickNanos, pid: m.lastPid()}
}

// lastPid returns the pid that was given out last, the last field of /proc/loadavg; 0 if it cannot be read.
func (m marker) lastPid() int {
	var raw [128]byte
	n, err := unix.Pread(m.loadavg, raw[:], 0)
	if err != nil {
		return 0
	}
	line := bytes.TrimSpace(raw[:n])
	pid, err := strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
	if err != nil {
		return 0
	}
	return pid
}

func (m marker) close() {
	if m.loadavg >= 0 {
		_ = unix.Close(m.loadavg) // Only read from.
	}
}

// before reports whether a process began after the mark. Within the mark's own tick the pids decide; a pid that is far below
// the last one was given out after the numbers had wrapped.
func (m Mark) before(s stat) bool {
	const far = 1 << 14
	switch {
	case s.start != m.Ticks:
		return s.start > m.Ticks
	case m.pid == 0:
		return true
	case s.pid > m.pid:
		return s.pid-m.pid < far
	default:
		return m.pid-s.pid > far
	}
}
