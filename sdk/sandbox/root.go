package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where a sandbox with a root of its own finds its folders.
const (
	WorkspacePath = "/workspace"
	HomePath      = "/home/openhands"
)

// RootSpec describes a root of a sandbox's own: all of the machine's files at their places, but WorkspacePath and HomePath are
// the sandbox's. It lives in a mount namespace alone; nothing is made on the machine's real root.
type RootSpec struct {
	// Scratch is an existing empty folder, covered by the new root while that is built. The machine sees it stay empty.
	Scratch string `json:"scratch"`
	// Workspace and Home are the folders to be found at WorkspacePath and HomePath.
	Workspace string `json:"workspace"`
	Home      string `json:"home"`
	// Username is the name that this user has inside, as CheckUsername allows; empty for its own.
	Username string `json:"username,omitempty"`
}

// enterFailed is the exit status of EnterMain where the root could not be made.
const enterFailed = 125

// Wrap changes cmd so that its program runs in the root: the clone makes the namespaces, and shim, a program whose main calls
// EnterMain with the arguments that follow the given ones, builds the root and executes the program. SysProcAttr may be set
// before. Without privilege a user namespace that maps this user alone comes with it.
func (s RootSpec) Wrap(cmd *exec.Cmd, shim []string) error {
	spec, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("wrap in a new root: %w", err)
	}
	args := append(append([]string{}, shim...), string(spec), cmd.Path)
	cmd.Path, cmd.Args = shim[0], append(args, cmd.Args...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	attr := cmd.SysProcAttr
	attr.Cloneflags |= unix.CLONE_NEWNS
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		attr.AmbientCaps = append(attr.AmbientCaps, unix.CAP_SYS_ADMIN) // Else the exec of the shim loses it.
	}
	return nil
}

// EnterMain is the main of a shim: its arguments are the spec, the program's path and the program's arguments. It does not
// return: it executes the program, or says on standard error why it cannot and exits with status 125.
func EnterMain(args []string) {
	err := enterAndExec(args)
	fmt.Fprintf(os.Stderr, "enter the sandbox's root: %v\n", err)
	os.Exit(enterFailed)
}

func enterAndExec(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: SPEC PROGRAM ARGV0 [ARG...]")
	}
	var spec RootSpec
	if err := json.Unmarshal([]byte(args[0]), &spec); err != nil {
		return err
	}
	// Capabilities belong to the thread: what is dropped here is dropped by the thread that executes the program.
	runtime.LockOSThread()
	if err := Enter(spec); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop ambient capabilities: %w", err)
	}
	return os.NewSyscallError("exec "+args[1], unix.Exec(args[1], args[2:], os.Environ()))
}

// Enter builds the root and makes it this process's. The process must be in a mount namespace of its own (Wrap), with
// CAP_SYS_ADMIN over it. On an error the namespace is left half-built, to be given up with the process.
func Enter(s RootSpec) error {
	// Mounts of the machine still arrive here, ours stay here.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", s.Scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return err
	}
	// Unbindable, or the bind of the folder that Scratch lies in would take a copy of the new root into the new root.
	if err := mount("", s.Scratch, "", unix.MS_UNBINDABLE, ""); err != nil {
		return err
	}
	if err := s.fill(); err != nil {
		return err
	}
	return pivot(s.Scratch)
}

// fill puts everything into the new root.
func (s RootSpec) fill() error {
	if err := mirror("/", s.Scratch, filepath.Base(WorkspacePath), "home"); err != nil {
		return err
	}
	homes := filepath.Join(s.Scratch, filepath.Dir(HomePath))
	if err := os.Mkdir(homes, 0o755); err != nil {
		return err
	}
	if err := mirror(filepath.Dir(HomePath), homes, filepath.Base(HomePath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for at, folder := range map[string]string{WorkspacePath: s.Workspace, HomePath: s.Home} {
		target := filepath.Join(s.Scratch, at)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := mount(folder, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	return s.nameUser()
}

// mirror makes every entry of a folder appear in another one: links are copied, files and folders bound. Sockets, pipes and
// devices that lie there are left out, and so is what vanishes meanwhile.
func mirror(from, to string, skip ...string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if skipped(e.Name(), skip) {
			continue
		}
		err := mirrorEntry(e, filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func skipped(name string, skip []string) bool {
	for _, s := range skip {
		if s == name {
			return true
		}
	}
	return false
}

func mirrorEntry(e fs.DirEntry, from, to string) error {
	switch {
	case e.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
	case e.Type()&fs.ModeSymlink != 0:
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(link, to)
	case e.Type().IsRegular():
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return err
		}
	default:
		return nil
	}
	return mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
}

// pivot makes a mount the root and lets go of the old one.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return os.NewSyscallError("chdir to new root", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	// The old root now lies over the new one, at the same place.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("unmount old root", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	return mount("", "/", "", unix.MS_PRIVATE, "")
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}
