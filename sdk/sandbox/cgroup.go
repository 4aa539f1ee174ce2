package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// cgroup is the folder of a cgroup v2.
type cgroup string

func (c cgroup) write(file, value string) error {
	f, err := os.OpenFile(filepath.Join(string(c), file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// pids returns the processes of the cgroup itself, zombies not among them. A cgroup that is gone has none.
func (c cgroup) pids() ([]int, error) {
	raw, err := os.ReadFile(filepath.Join(string(c), "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cgroup: %w", err)
	}
	var pids []int
	for line := range bytes.Lines(raw) {
		pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
		if err != nil {
			return nil, fmt.Errorf("read cgroup %s: %w", c, err)
		}
		if pid > 0 { // 0 is a process of another pid namespace.
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// walk calls visit for the cgroup and everything below it, but not for what lies below one for which visit returns SkipDir.
func (c cgroup) walk(visit func(cgroup) error) error {
	return filepath.WalkDir(string(c), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return nil
		}
		return visit(cgroup(path))
	})
}

// allPids returns the processes of the cgroup and of everything below it, the skipped cgroups left out.
func (c cgroup) allPids(skip func(cgroup) bool) ([]int, error) {
	var all []int
	err := c.walk(func(sub cgroup) error {
		if skip != nil && skip(sub) {
			return fs.SkipDir
		}
		pids, err := sub.pids()
		all = append(all, pids...)
		return err
	})
	return all, err
}

// event waits until a key of cgroup.events has a value. Timeout if it takes too long; a cgroup that is gone is empty and at rest.
func (c cgroup) event(key string, want byte, limit time.Duration) error {
	f, err := os.Open(filepath.Join(string(c), "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch cgroup: %w", err)
	}
	defer f.Close()
	until := time.Now().Add(limit)
	for {
		have, err := readEvent(f, key)
		if errors.Is(err, unix.ENODEV) || (err == nil && have == want) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch cgroup %s: %w", c, err)
		}
		left := time.Until(until)
		if left <= 0 {
			return rterr.New(rterr.Timeout, "", "cgroup %s has %s %c after %s, not %c", c, key, have, limit, want)
		}
		if err := pollPri(f, left); err != nil {
			return fmt.Errorf("watch cgroup %s: %w", c, err)
		}
	}
}

// readEvent returns the first character of a key's value.
func readEvent(f *os.File, key string) (byte, error) {
	var buf [256]byte
	n, err := f.ReadAt(buf[:], 0)
	if n == 0 && err != nil {
		return 0, err
	}
	return eventValue(buf[:n], key)
}

func eventValue(raw []byte, key string) (byte, error) {
	for line := range bytes.Lines(raw) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if ok && string(name) == key && len(value) > 0 {
			return value[0], nil
		}
	}
	return 0, fmt.Errorf("cgroup.events has no %q", key)
}

// pollPri blocks until the kernel says that a file of a cgroup has changed, or the time is up.
func pollPri(f *os.File, left time.Duration) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var pollErr error
	err = raw.Control(func(fd uintptr) {
		_, pollErr = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, int(left/time.Millisecond)+1)
	})
	if errors.Is(pollErr, unix.EINTR) {
		pollErr = nil
	}
	return errors.Join(err, pollErr)
}

// freeze stops the cgroup; on a timeout it lets it go again.
func (c cgroup) freeze(limit time.Duration) error {
	if err := c.write("cgroup.freeze", "1"); err != nil {
		return fmt.Errorf("freeze cgroup: %w", err)
	}
	if err := c.event("frozen", '1', limit); err != nil {
		return errors.Join(err, c.write("cgroup.freeze", "0"))
	}
	return nil
}

func (c cgroup) thaw(limit time.Duration) error {
	if err := c.write("cgroup.freeze", "0"); err != nil {
		return fmt.Errorf("thaw cgroup: %w", err)
	}
	return c.event("frozen", '0', limit)
}

// killAll ends everything in the cgroup and below it, and waits until it is empty.
func (c cgroup) killAll(limit time.Duration) error {
	err := c.write("cgroup.kill", "1")
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(string(c)); errors.Is(statErr, fs.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return c.event("populated", '0', limit)
}

// remove removes the cgroup and everything below it, innermost first. It must be empty of processes.
func (c cgroup) remove() error {
	err := os.Remove(string(c))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var all []cgroup
	if err := c.walk(func(sub cgroup) error { all = append(all, sub); return nil }); err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if err := os.Remove(string(all[i])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

// pathInMount returns the path of a folder from the root of the file system that it is on.
func pathInMount(dir string) (string, error) {
	dev, err := deviceOf(dir)
	if err != nil {
		return "", err
	}
	mount := filepath.Clean(dir)
	for mount != "/" {
		up := filepath.Dir(mount)
		if have, err := deviceOf(up); err != nil || have != dev {
			break
		}
		mount = up
	}
	rel, err := filepath.Rel(mount, dir)
	if err != nil {
		return "", err
	}
	return filepath.Join("/", rel), nil
}

func deviceOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Dev, nil
}
