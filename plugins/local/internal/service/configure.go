package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/config"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/python"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/spawn"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// Configure checks everything, tries the machine, and only then puts the new settings in the place of the old ones. Sandboxes of
// the owner that are found are watched from then on, and what is left of dead ones is removed.
func (s *Service) Configure(ctx context.Context, req *backendv1.ConfigureRequest) (*backendv1.ConfigureResponse, error) {
	const op = "configure local backend"
	if req.GetOwner() == "" || strings.ContainsAny(req.GetOwner(), "/\x00\n") || strings.HasPrefix(req.GetOwner(), ".") {
		return nil, rterr.Invalid(op, "owner", "%q cannot be the name of an owner", req.GetOwner())
	}
	parsed, err := config.Parse(req.GetConfig(), beside())
	if err != nil {
		return nil, err
	}
	root, err := folder.Open(req.GetStateDir())
	if err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, op, err)
	}
	set := &settings{Settings: parsed, owner: req.GetOwner(), backend: req.GetBackend(), root: root, machine: s.machine()}
	set.base = python.New(filepath.Join(req.GetStateDir(), "python"), os.Environ())
	if err := set.probeMount(ctx); err != nil {
		return nil, err
	}
	warnings := set.warnings()
	s.mu.Lock()
	s.set = set
	s.mu.Unlock()
	if err := s.sweep(ctx, set); err != nil {
		warnings = append(warnings, fmt.Sprintf("what dead sandboxes left could not all be removed: %v", err))
	}
	return &backendv1.ConfigureResponse{Capabilities: set.capabilities(), Warnings: warnings}, nil
}

// probeMount finds out whether sandboxes can have a root of their own.
func (set *settings) probeMount(ctx context.Context) error {
	if set.MountNamespace == config.MountOff {
		set.why = "mount_namespace is off"
		return nil
	}
	err := set.tryMount(ctx)
	set.mounted = err == nil
	if err == nil {
		return nil
	}
	if set.MountNamespace == config.MountRequired {
		return config.Invalid("mount_namespace", "is required, and cannot be had: %v", err).WithCause(err).
			WithRemedy(`allow mount namespaces to this user, or set mount_namespace to "auto"`)
	}
	set.why = err.Error()
	return nil
}

func (set *settings) tryMount(ctx context.Context) error {
	for _, covered := range []string{sandbox.WorkspacePath, sandbox.HomePath} {
		if strings.HasPrefix(set.root.Dir()+"/", covered+"/") {
			return fmt.Errorf("the state folder %s lies in %s, which sandboxes cover", set.root.Dir(), covered)
		}
	}
	return sandbox.ProbeRoot(ctx, []string{"/proc/self/exe", spawn.EnterRoot}, set.root.Dir())
}

// warnings are what works less well than asked for.
func (set *settings) warnings() []string {
	out := append([]string{}, set.notes...)
	if !set.mounted {
		out = append(out, fmt.Sprintf("%s is not mounted, workspaces are seen where they are: %s", sandbox.WorkspacePath, set.why))
	}
	for limit, asked := range map[string]bool{
		sandbox.LimitMemory: set.Limits.MemoryBytes > 0, sandbox.LimitCPU: set.Limits.CPUMillis > 0, sandbox.LimitPids: set.Limits.Pids > 0,
	} {
		if asked && !set.placement.Can(limit) {
			out = append(out, fmt.Sprintf("the configured limit of %s is not enforced", limit))
		}
	}
	return out
}

// sweep finds the owner's sandboxes again, and removes what dead ones and cut makings left.
func (s *Service) sweep(ctx context.Context, set *settings) error {
	errs := []error{set.root.Sweep()}
	ids, err := set.root.IDs()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, id := range ids {
		m, err := set.root.Read(id)
		switch {
		case rterr.Is(err, rterr.NotFound):
			errs = append(errs, dropEmpty(set, id))
		case err != nil || m.Owner != set.owner: // Not ours to touch.
		case dead(m):
			errs = append(errs, s.reap(ctx, set, m))
		case m.PID > 0:
			s.watch(set, m)
		}
	}
	return errors.Join(errs...)
}

// dropEmpty removes a folder that nothing was put into, unless somebody is about to.
func dropEmpty(set *settings, id string) error {
	lock, err := set.root.Lock(id, false)
	if err != nil {
		return nil // Somebody is.
	}
	defer lock.Close()
	if _, err := set.root.Read(id); !rterr.Is(err, rterr.NotFound) {
		return nil
	}
	return set.root.Remove(id)
}

// scratch is where a sandbox's new root is built.
func scratch(set *settings, id string) string { return set.root.Path(id, "root") }

// cgroupName is the name of a sandbox's cgroups.
func cgroupName(set *settings, id string) string { return filepath.Join(set.owner, id) }
