package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// FindPlacement tries where cgroups can be made, filled and limited, and leaves nothing behind. It starts short processes and
// takes some milliseconds; the answer holds as long as the machine's cgroups stay as they are. The notes say, for operators,
// what cannot be had and why.
func FindPlacement(ctx context.Context) (p Placement, notes []string) {
	mounts, err := cgroupMounts()
	if err != nil {
		return Placement{}, []string{fmt.Sprintf("no cgroups: %v", err)}
	}
	p.V1 = map[string]string{}
	if base, err := mounts.try("", func(base string) error { return tryTree(ctx, base) }); err != nil {
		notes = append(notes, fmt.Sprintf("process trees are found by walking, not held by a cgroup: %v", err))
	} else {
		p.V2 = base
	}
	for _, limit := range []string{LimitMemory, LimitPids, LimitCPU} {
		if p.V2 != "" && tryV2Limit(p, limit) == nil {
			p.Controllers = append(p.Controllers, limit)
			continue
		}
		base, err := mounts.try(limit, func(base string) error { return tryV1Limit(base, limit) })
		if err != nil {
			notes = append(notes, fmt.Sprintf("%s cannot be limited: %v", limit, err))
			continue
		}
		p.V1[limit] = base
	}
	return p, notes
}

// trial are limits that nothing can exceed: only whether they can be set matters.
func trial(limit string) Limits {
	return map[string]Limits{
		LimitMemory: {MemoryBytes: 1 << 40}, LimitPids: {Pids: 30_000}, LimitCPU: {CPUMillis: 1000},
	}[limit]
}

func trialName() string { return "probe-" + strings.ToLower(rand.Text()) }

// tryTree holds, stops and ends a process in a cgroup.
func tryTree(ctx context.Context, base string) error {
	p, name := Placement{V2: base}, trialName()
	g, err := p.Make(name, Limits{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	return errors.Join(tryIn(ctx, cgroup(g.Tree)), p.Remove(name))
}

func tryIn(ctx context.Context, dir cgroup) error {
	fd, err := unix.Open(string(dir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "read x")
	hold, err := cmd.StdinPipe() // Lives until it is killed.
	if err != nil {
		return err
	}
	defer hold.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = errors.Join(dir.freeze(waitFrozen), dir.thaw(waitFrozen), dir.killAll(waitKilled))
	_ = cmd.Process.Kill() // Should the cgroup not have done it.
	_ = cmd.Wait()         // It was killed; that is what it says.
	return err
}

func tryV2Limit(p Placement, limit string) error {
	p.Controllers, p.V1 = []string{limit}, nil
	name := trialName()
	if _, err := p.Make(name, trial(limit)); err != nil {
		return err
	}
	return p.Remove(name)
}

// tryV1Limit sets a limit and lets a thread join.
func tryV1Limit(base, limit string) error {
	p, name := Placement{V1: map[string]string{limit: base}}, trialName()
	g, err := p.Make(name, trial(limit))
	if err != nil {
		return err
	}
	s, err := newStarter(g.Limits)
	if err == nil {
		s.close()
	}
	return errors.Join(err, p.Remove(name))
}

// hierarchies are the mounted cgroup hierarchies by controller, "" for v2, and the place of this process in each.
type hierarchies struct {
	mounts map[string]string
	own    string
}

// try returns the first folder of ours for which f succeeds: at the top, so that sandboxes outlive a service's own cgroup,
// else below this process's own, which may be all that was delegated to it.
func (h hierarchies) try(controller string, f func(base string) error) (string, error) {
	mount, ok := h.mounts[controller]
	if !ok {
		return "", errors.New("the hierarchy is not mounted")
	}
	bases := []string{filepath.Join(mount, BaseName)}
	if own, ok := controllerPath(h.own, controller); ok && own != "/" {
		bases = append(bases, filepath.Join(mount, own, BaseName))
	}
	var errs []error
	for _, base := range bases {
		err := f(base)
		if err == nil {
			return base, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// cgroupMounts reads where the hierarchies are mounted: all of v2 in one, v1, or both beside each other.
func cgroupMounts() (hierarchies, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hierarchies{}, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return hierarchies{}, err
	}
	return hierarchies{mounts: parseCgroupMounts(raw), own: string(own)}, nil
}

// parseCgroupMounts reads "ID PARENT DEV ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS" lines.
func parseCgroupMounts(raw []byte) map[string]string {
	mounts := map[string]string{}
	for line := range bytes.Lines(raw) {
		before, after, ok := strings.Cut(string(line), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		switch tail[0] {
		case "cgroup2":
			mounts[""] = head[4]
		case "cgroup":
			for _, option := range strings.Split(tail[2], ",") {
				if slices.Contains([]string{LimitMemory, LimitPids, LimitCPU}, option) {
					mounts[option] = head[4]
				}
			}
		}
	}
	return mounts
}

// ProbeRoot tries whether a root of a sandbox's own can be had (RootSpec), with the shim that will make it; nil if so. dir is a
// folder for the trial, which is left as it was.
func ProbeRoot(ctx context.Context, shim []string, dir string) error {
	tmp, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return fmt.Errorf("probe mount namespace: %w", err)
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "test -e "+WorkspacePath+"/probe && test -d "+HomePath)
	spec := RootSpec{Scratch: filepath.Join(tmp, "root"), Workspace: filepath.Join(tmp, "w"), Home: filepath.Join(tmp, "h")}
	for _, folder := range []string{spec.Scratch, spec.Home, spec.Workspace, filepath.Join(spec.Workspace, "probe")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return fmt.Errorf("probe mount namespace: %w", err)
		}
	}
	if err := spec.Wrap(cmd, shim); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("probe mount namespace: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
