package v0

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
)

// stats are what /server_info tells.
type stats struct {
	started time.Time

	mu sync.Mutex
	// used is when an action was accepted last.
	used time.Time
	// at and cpu are the moment of the last look and the time that the process had used by then.
	at  time.Time
	cpu time.Duration
}

func newStats(started time.Time) *stats { return &stats{started: started, used: started, at: started} }

// touch notes that an action was accepted.
func (s *stats) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = time.Now()
}

// info is the body of a /server_info. cpu, memory and io are of this process.
type info struct {
	Uptime    float64   `json:"uptime"`
	IdleTime  float64   `json:"idle_time"`
	Resources resources `json:"resources"`
}

type resources struct {
	CPUPercent float64  `json:"cpu_percent"`
	Memory     memory   `json:"memory"`
	Disk       disk     `json:"disk"`
	IO         transfer `json:"io"`
}

type memory struct {
	RSS     uint64  `json:"rss"`
	VMS     uint64  `json:"vms"`
	Percent float64 `json:"percent"`
}

type disk struct {
	Total   uint64  `json:"total"`
	Used    uint64  `json:"used"`
	Free    uint64  `json:"free"`
	Percent float64 `json:"percent"`
}

type transfer struct {
	ReadBytes  uint64 `json:"read_bytes"`
	WriteBytes uint64 `json:"write_bytes"`
}

// info looks at the process and the disk. What cannot be read is zero. The share of the processor is that since the last look, so
// that nobody has to wait for a second one.
func (s *stats) info(f *files.Service) info {
	now := time.Now()
	s.mu.Lock()
	used := s.used
	cpu := s.processor(now)
	s.mu.Unlock()
	d, _ := f.Disk() // zeros say as much
	out := info{Uptime: now.Sub(s.started).Seconds(), IdleTime: max(now.Sub(used).Seconds(), 0), Resources: resources{
		CPUPercent: cpu, Memory: processMemory(), IO: processIO(), Disk: disk{Total: d.Total, Used: d.Used, Free: d.Free},
	}}
	if all := d.Used + d.Free; all > 0 {
		out.Resources.Disk.Percent = percent(d.Used, all)
	}
	return out
}

// percent has one digit after the point.
func percent(part, whole uint64) float64 { return float64(part*1000/whole) / 10 }

// processor returns the share of one processor since the last look, in percent. mu is held.
func (s *stats) processor(now time.Time) float64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	total := time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	wall, busy := now.Sub(s.at), total-s.cpu
	s.at, s.cpu = now, total
	if wall <= 0 {
		return 0
	}
	return float64(busy*1000/wall) / 10
}

// processMemory reads /proc/self/statm, which counts pages.
func processMemory() memory {
	raw, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(raw)
	if err != nil || len(fields) < 2 {
		return memory{}
	}
	page := uint64(os.Getpagesize())
	m := memory{VMS: number64(fields[0]) * page, RSS: number64(fields[1]) * page}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil && si.Totalram > 0 {
		m.Percent = percent(m.RSS, si.Totalram*uint64(si.Unit))
	}
	return m
}

// processIO reads /proc/self/io, which not every process may.
func processIO() transfer {
	raw, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return transfer{}
	}
	var t transfer
	for line := range bytes.Lines(raw) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		switch string(key) {
		case "read_bytes":
			t.ReadBytes = number64(bytes.TrimSpace(value))
		case "write_bytes":
			t.WriteBytes = number64(bytes.TrimSpace(value))
		}
	}
	return t
}

func number64(text []byte) uint64 {
	n, _ := strconv.ParseUint(string(text), 10, 64) // the kernel writes numbers
	return n
}
