package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// placed returns where cgroups go here, and fails if the test leaves one.
func placed(t *testing.T) (Placement, string) {
	t.Helper()
	p, notes := FindPlacement(t.Context())
	t.Log(p, notes)
	if len(p.bases()) == 0 {
		t.Skip("no cgroup can be made here")
	}
	owner := fmt.Sprintf("test-%d-%s", os.Getpid(), t.Name())
	t.Cleanup(func() {
		for _, base := range p.bases() {
			if _, err := os.Stat(filepath.Join(base, owner)); err == nil {
				t.Errorf("a cgroup is left in %s", base)
			}
		}
	})
	return p, owner
}

func TestPlacementMakesAndRemoves(t *testing.T) {
	p, owner := placed(t)
	name := filepath.Join(owner, "s1")
	for range 2 {
		g, err := p.Make(name, Limits{MemoryBytes: 64 << 20, Pids: 16, CPUMillis: 500})
		if err != nil {
			t.Fatal(err)
		}
		if p.V2 != "" && (g.Agent == "" || g.Tree == "") {
			t.Errorf("groups %+v", g)
		}
		if len(g.Limits) != len(p.V1) {
			t.Errorf("%d limit groups for %v", len(g.Limits), p.V1)
		}
	}
	if empty, err := p.Empty(name); !empty || err != nil {
		t.Errorf("empty: %v, %v", empty, err)
	}
	for range 2 {
		if err := p.Kill(name); err != nil {
			t.Error(err)
		}
		if err := p.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

func TestNoPlacement(t *testing.T) {
	var p Placement
	g, err := p.Make("o/s", Limits{MemoryBytes: 1, Pids: 1, CPUMillis: 1})
	if err != nil || g.Agent != "" || g.Tree != "" || g.Limits != nil {
		t.Errorf("%+v, %v", g, err)
	}
	if p.Kill("o/s") != nil || p.Remove("o/s") != nil || p.Can(LimitPids) {
		t.Error("the zero placement does something")
	}
}

// TestLimitsHold: what is asked for is enforced on what the tree starts, not merely written down.
func TestLimitsHold(t *testing.T) {
	p, owner := placed(t)
	for limit, c := range map[string]struct {
		limits Limits
		script string
	}{
		LimitMemory: {Limits{MemoryBytes: 32 << 20}, "x=$(head -c 200000000 /dev/zero | tr '\\0' a); echo ${#x}"},
		LimitPids:   {Limits{Pids: 8}, "for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; echo all"},
	} {
		t.Run(limit, func(t *testing.T) {
			if !p.Can(limit) {
				t.Skip("not enforceable here")
			}
			name := filepath.Join(owner, limit)
			g, err := p.Make(name, c.limits)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Remove(name); err != nil {
					t.Error(err)
				}
			}()
			runTree(t, TreeConfig{Cgroup: g.Tree, LimitGroups: g.Limits}, func(t *testing.T, tree Tree) {
				cmd := exec.Command("sh", "-c", c.script)
				var out strings.Builder
				cmd.Stdout = &out
				if err := tree.Start(cmd, ""); err != nil {
					t.Fatal(err)
				}
				if _, err := cmd.Process.Wait(); err != nil {
					t.Fatal(err)
				}
				if _, err := tree.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				if out.String() != "" {
					t.Errorf("the limit does not hold: %q", out.String())
				}
			})
		})
	}
}

func TestCPULimitJoins(t *testing.T) {
	p, owner := placed(t)
	if _, v1 := p.V1[LimitCPU]; !v1 {
		t.Skip("no v1 cpu controller here")
	}
	name := filepath.Join(owner, "cpu")
	g, err := p.Make(name, Limits{CPUMillis: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Remove(name); err != nil {
			t.Error(err)
		}
	}()
	runTree(t, TreeConfig{Cgroup: g.Tree, LimitGroups: g.Limits}, func(t *testing.T, tree Tree) {
		_, lines := sh(t, tree, "", "echo 1; exec sleep 600")
		number(t, lines)
		pids, err := tree.Pids()
		if err != nil || len(pids) != 1 {
			t.Fatalf("%v, %v", pids, err)
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pids[0]))
		if err != nil {
			t.Fatal(err)
		}
		if path, ok := controllerPath(string(raw), LimitCPU); !ok || !strings.HasSuffix(path, name) {
			t.Errorf("it is in %q", path)
		}
	})
}

// TestPlacementTogether: one sandbox's end does not pull the folder away from another's beginning.
func TestPlacementTogether(t *testing.T) {
	p, owner := placed(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 10 {
				name := fmt.Sprintf("%s/s%d-%d", owner, i, j)
				if _, err := p.Make(name, Limits{Pids: 10}); err != nil {
					t.Error(err)
				}
				if err := p.Remove(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestParseCgroupMounts(t *testing.T) {
	got := parseCgroupMounts([]byte(`35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
broken
`))
	want := map[string]string{"": "/sys/fs/cgroup/unified", "memory": "/sys/fs/cgroup/memory", "cpu": "/sys/fs/cgroup/cpu,cpuacct"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
}

func FuzzParseCgroupMounts(f *testing.F) {
	f.Add([]byte("41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for c, m := range parseCgroupMounts(raw) {
			if c != "" && c != LimitMemory && c != LimitPids && c != LimitCPU || m == "" {
				t.Errorf("%q at %q", c, m)
			}
		}
	})
}

func TestFindPlacementCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, notes := FindPlacement(ctx)
	if p.V2 != "" || len(notes) == 0 {
		t.Errorf("%+v, %v", p, notes)
	}
}

func TestMakeFailsClean(t *testing.T) {
	p := Placement{V2: "/proc/no-such/openhands-rt"}
	if _, err := p.Make("o/s", Limits{}); err == nil || rterr.Is(err, rterr.Unspecified) {
		t.Errorf("made: %v", err)
	}
}
