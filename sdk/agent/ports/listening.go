package ports

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxLine bounds a line of /proc/net/tcp; real ones have about 150 bytes.
const maxLine = 4 << 10

// Listening returns the TCP ports, sorted, on which one of the processes listens, read from the process file system at proc
// ("/proc"). Each process is looked at in its own network namespace. Processes that end meanwhile are left out.
func Listening(proc string, pids []int) ([]uint32, error) {
	spaces := map[string][]int{}
	for _, pid := range pids {
		space, err := os.Readlink(filepath.Join(proc, strconv.Itoa(pid), "ns", "net"))
		if err == nil {
			spaces[space] = append(spaces[space], pid)
		}
	}
	found := map[uint32]bool{}
	for _, members := range spaces {
		if err := listeningIn(proc, members, found); err != nil {
			return nil, rterr.Wrap(rterr.Internal, "list ports", err)
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// listeningIn adds the ports of processes that share a network namespace.
func listeningIn(proc string, pids []int, found map[uint32]bool) error {
	inodes := map[string]uint32{}
	for _, table := range []string{"tcp", "tcp6"} {
		if err := readTable(proc, pids, table, inodes); err != nil {
			return err
		}
	}
	if len(inodes) == 0 {
		return nil
	}
	for _, pid := range pids {
		dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, entry := range entries {
			target, _ := os.Readlink(filepath.Join(dir, entry.Name())) // closed meanwhile: no socket
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				if port, listens := inodes[strings.TrimSuffix(inode, "]")]; listens {
					found[port] = true
				}
			}
		}
	}
	return nil
}

// readTable reads the table through the first of the processes that is still there.
func readTable(proc string, pids []int, table string, inodes map[string]uint32) error {
	for _, pid := range pids {
		f, err := os.Open(filepath.Join(proc, strconv.Itoa(pid), "net", table))
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return err
			}
			continue // it has ended, or there is no IPv6
		}
		err = parseTable(f, inodes)
		_ = f.Close()
		return err
	}
	return nil
}

// parseTable adds the listening sockets of a table in the form of /proc/net/tcp: inode to port.
func parseTable(r io.Reader, inodes map[string]uint32) error {
	const listen = "0A"
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 512), maxLine)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listen {
			continue
		}
		_, hex, ok := strings.Cut(fields[1], ":")
		port, err := strconv.ParseUint(hex, 16, 16)
		if ok && err == nil && port > 0 {
			inodes[fields[9]] = uint32(port)
		}
	}
	return lines.Err()
}
