package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// BaseName is the cgroup under which all of ours lie, in each hierarchy.
const BaseName = "openhands-rt"

// The limits that a machine may be able to enforce; the names are those of the v1 controllers.
const (
	LimitMemory = "memory"
	LimitPids   = "pids"
	LimitCPU    = "cpu"
)

// Limits of one sandbox; zero means none.
type Limits struct {
	MemoryBytes uint64
	CPUMillis   uint32
	Pids        uint32
}

// Placement is where on this machine cgroups of ours can be made, found out by trying (FindPlacement). The zero value is a
// machine without any.
type Placement struct {
	// V2 is our folder in the v2 hierarchy; empty: trees are walked.
	V2 string
	// V1 are our folders in v1 hierarchies, by the limit that each enforces. A limit that v2 enforces is not among them.
	V1 map[string]string
	// Controllers are the limits that the v2 hierarchy enforces.
	Controllers []string
}

// Can reports whether a limit is enforced here.
func (p Placement) Can(limit string) bool {
	if _, ok := p.V1[limit]; ok {
		return true
	}
	for _, c := range p.Controllers {
		if c == limit {
			return true
		}
	}
	return false
}

// Groups are the cgroups of one sandbox.
type Groups struct {
	// Agent is the v2 cgroup for the agent alone, Tree that for everything else; empty where there is no v2.
	Agent string `json:"agent,omitempty"`
	Tree  string `json:"tree,omitempty"`
	// Limits are v1 cgroups for everything but the agent (TreeConfig.LimitGroups).
	Limits []string `json:"limits,omitempty"`
}

// Make makes the cgroups of a sandbox; name is a relative path such as "OWNER/SANDBOX". What is not asked for, or cannot be
// enforced (Can), makes no cgroup. On an error nothing is left.
func (p Placement) Make(name string, limits Limits) (Groups, error) {
	g, err := p.make(name, limits)
	if err != nil {
		return Groups{}, errors.Join(fmt.Errorf("make cgroups: %w", err), p.Remove(name))
	}
	return g, nil
}

func (p Placement) make(name string, limits Limits) (Groups, error) {
	var g Groups
	if p.V2 != "" {
		dir := filepath.Join(p.V2, name)
		g.Agent, g.Tree = filepath.Join(dir, "agent"), filepath.Join(dir, "tree")
		if err := makeDirs(g.Agent, g.Tree); err != nil {
			return g, err
		}
		p.enable(dir)
	}
	for limit, value := range limits.settings(p) {
		if value.v2 {
			if err := value.apply(g.Tree); err != nil {
				return g, err
			}
			continue
		}
		dir := filepath.Join(p.V1[limit], name)
		if err := makeDirs(dir); err != nil {
			return g, err
		}
		if err := value.apply(dir); err != nil {
			return g, err
		}
		g.Limits = append(g.Limits, dir)
	}
	return g, nil
}

// makeDirs makes folders; a parent that another sandbox's end removes meanwhile is made again.
func makeDirs(dirs ...string) error {
	for _, dir := range dirs {
		var err error
		for range killRounds {
			if err = os.MkdirAll(dir, 0o755); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enable switches the limiting controllers on from the mount down to a folder. Where that is refused, the limit's own file is
// missing, and setting it says so.
func (p Placement) enable(dir string) {
	if len(p.Controllers) == 0 {
		return
	}
	chain := []string{}
	for d := dir; strings.HasPrefix(d, filepath.Dir(p.V2)); d = filepath.Dir(d) {
		chain = append([]string{d}, chain...)
	}
	for _, d := range chain {
		for _, c := range p.Controllers {
			_ = cgroup(d).write("cgroup.subtree_control", "+"+c) // As above.
		}
	}
}

// setting is one limit's files and values.
type setting struct {
	v2     bool
	values [][2]string
}

func (s setting) apply(dir string) error {
	for _, v := range s.values {
		if err := cgroup(dir).write(v[0], v[1]); err != nil {
			return fmt.Errorf("set %s: %w", v[0], err)
		}
	}
	return nil
}

// cpuPeriod in microseconds: the kernel's own default.
const cpuPeriod = 100_000

// settings returns what is to be set for the limits that are asked for and can be enforced.
func (l Limits) settings(p Placement) map[string]setting {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	quota := number(max(uint64(l.CPUMillis)*cpuPeriod/1000, 1000)) // The kernel takes no quota below 1 ms.
	v1 := map[string]setting{
		LimitMemory: {values: [][2]string{{"memory.limit_in_bytes", number(l.MemoryBytes)}}},
		// One more for the thread of the agent that does the forking.
		LimitPids: {values: [][2]string{{"pids.max", number(uint64(l.Pids) + 1)}}},
		LimitCPU:  {values: [][2]string{{"cpu.cfs_period_us", number(cpuPeriod)}, {"cpu.cfs_quota_us", quota}}},
	}
	v2 := map[string]setting{
		LimitMemory: {v2: true, values: [][2]string{{"memory.max", number(l.MemoryBytes)}}},
		LimitPids:   {v2: true, values: [][2]string{{"pids.max", number(uint64(l.Pids))}}},
		LimitCPU:    {v2: true, values: [][2]string{{"cpu.max", quota + " " + number(cpuPeriod)}}},
	}
	wanted := map[string]bool{LimitMemory: l.MemoryBytes > 0, LimitPids: l.Pids > 0, LimitCPU: l.CPUMillis > 0}
	out := map[string]setting{}
	for limit, want := range wanted {
		_, inV1 := p.V1[limit]
		switch {
		case !want || !p.Can(limit):
		case inV1:
			out[limit] = v1[limit]
		default:
			out[limit] = v2[limit]
		}
	}
	return out
}

// Kill ends everything in a sandbox's v2 cgroups, the agent included, and waits until it is gone. No error if there is none.
func (p Placement) Kill(name string) error {
	if p.V2 == "" {
		return nil
	}
	return cgroup(filepath.Join(p.V2, name)).killAll(waitKilled)
}

// Empty reports whether no process is left in a sandbox's v2 cgroups.
func (p Placement) Empty(name string) (bool, error) {
	if p.V2 == "" {
		return true, nil
	}
	pids, err := cgroup(filepath.Join(p.V2, name)).allPids(nil)
	return len(pids) == 0, err
}

// Remove removes the cgroups of a sandbox, which must be empty, and every parent up to our own folder that has nothing else in
// it. No error if there is none.
func (p Placement) Remove(name string) error {
	var errs []error
	for _, base := range p.bases() {
		dir := filepath.Join(base, name)
		if err := cgroup(dir).remove(); err != nil {
			errs = append(errs, err)
			continue
		}
		for up := filepath.Dir(dir); strings.HasPrefix(up, base); up = filepath.Dir(up) {
			if os.Remove(up) != nil { // Another sandbox lives there.
				break
			}
		}
	}
	return errors.Join(errs...)
}

func (p Placement) bases() []string {
	bases := []string{}
	if p.V2 != "" {
		bases = append(bases, p.V2)
	}
	for _, base := range p.V1 {
		bases = append(bases, base)
	}
	return bases
}

// Usage is what a sandbox's tree takes; fields are zero where the machine cannot say.
type Usage struct {
	MemoryBytes uint64
	CPUMicros   uint64
	Pids        uint32
}

// Usage reads the counters of a sandbox's cgroups.
func (p Placement) Usage(name string) Usage {
	var u Usage
	if p.V2 != "" {
		tree := filepath.Join(p.V2, name, "tree")
		u.CPUMicros = keyed(filepath.Join(tree, "cpu.stat"), "usage_usec")
		u.MemoryBytes = keyed(filepath.Join(tree, "memory.current"), "")
		pids, err := cgroup(tree).allPids(nil)
		if err == nil {
			u.Pids = uint32(len(pids))
		}
		if u.MemoryBytes == 0 { // No v2 controller: what the processes have resident, pages that they share counted for each.
			u.MemoryBytes = resident(pids)
		}
	}
	if base, ok := p.V1[LimitMemory]; ok {
		if n := keyed(filepath.Join(base, name, "memory.usage_in_bytes"), ""); n > 0 {
			u.MemoryBytes = n
		}
	}
	return u
}

// resident returns the sum of the processes' resident memory in bytes; one that has ended has none.
func resident(pids []int) uint64 {
	var sum uint64
	for _, pid := range pids {
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
		fields := bytes.Fields(raw)
		if err != nil || len(fields) < 2 {
			continue
		}
		if pages, err := strconv.ParseUint(string(fields[1]), 10, 64); err == nil {
			sum += pages * uint64(os.Getpagesize())
		}
	}
	return sum
}

// keyed reads a number from a file: after a key, or all of it; 0 if it is not there.
func keyed(file, key string) uint64 {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(raw) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || (key != "" && string(fields[0]) != key) {
			continue
		}
		n, err := strconv.ParseUint(string(fields[len(fields)-1]), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}
