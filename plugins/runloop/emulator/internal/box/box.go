// Package box holds one devbox of the emulator as a Linux machine sees it: a folder that is its disk, namespaces in which its processes
// live, and the ways in: commands, terminals and ports.
//
// A devbox runs as long as its first process. That one ends with Stop, and when the emulator ends in whatever way (its standard input
// is a pipe from us); the kernel then ends every other process of the devbox. What is on the disk stays until its owner removes it.
package box

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

//go:embed box.sh
var firstProcess string

// Spec says what a devbox is made of.
type Spec struct {
	// Disk is its folder, absolute; it is made if it is missing.
	Disk string
	// User and UID are who its commands run as. UID is kept only where the caller is root; else it is the caller's own under that name.
	User string
	UID  int
	// Env is the environment of every command, "NAME=VALUE", beside what Home, User and a PATH give.
	Env []string
}

// Home returns the user's home folder as the devbox sees it.
func (s Spec) Home() string {
	if s.User == "root" {
		return "/root"
	}
	return "/home/" + s.User
}

// Box is a devbox that runs. Its methods may be called from any goroutine.
type Box struct {
	spec  Spec
	first *exec.Cmd
	alive io.WriteCloser
	done  chan struct{}
	net   *network
}

// Privileged reports whether devboxes get users and networks of their own. Where they do not, they share the machine's network and
// run as the caller's user.
func Privileged() bool { return os.Geteuid() == 0 }

// Start boots a devbox from its disk and returns when commands can be run in it. ctx bounds the start alone.
func Start(ctx context.Context, spec Spec) (*Box, error) {
	if err := os.MkdirAll(spec.Disk, 0o755); err != nil { //nolint:gosec // The devbox's user, another than ours, reads it.
		return nil, rterr.Wrap(rterr.Internal, "make the disk of a devbox", err)
	}
	b := &Box{spec: spec, done: make(chan struct{})}
	if err := b.boot(ctx); err != nil {
		return nil, err
	}
	if !Privileged() {
		return b, nil
	}
	network, err := openNetwork(b.first.Process.Pid)
	if err != nil {
		b.Stop()
		return nil, err
	}
	b.net = network
	return b, nil
}

func (b *Box) boot(ctx context.Context) error {
	root, err := os.MkdirTemp(filepath.Dir(b.spec.Disk), ".root-*")
	if err != nil {
		return rterr.Wrap(rterr.Internal, "make the root of a devbox", err)
	}
	// The mount lies in the devbox's own namespace: here the folder stays empty.
	defer func() { _ = os.Remove(root) }()
	uid := b.spec.UID
	if !Privileged() {
		uid = 0
	}
	first := exec.Command("/bin/bash", "-c", firstProcess, "devbox", //nolint:gosec // The script is our own.
		b.spec.Disk, root, b.spec.User, strconv.Itoa(uid), b.spec.Home())
	first.Env = []string{"PATH=" + defaultPath}
	first.SysProcAttr = namespaces()
	var complaint strings.Builder
	first.Stderr = &complaint
	out, err := first.StdoutPipe()
	if err != nil {
		return rterr.Wrap(rterr.Internal, "start a devbox", err)
	}
	if b.alive, err = first.StdinPipe(); err != nil {
		return rterr.Wrap(rterr.Internal, "start a devbox", err)
	}
	if err := first.Start(); err != nil {
		return rterr.New(rterr.Unsupported, "start a devbox", "%v", err).WithCause(err).
			WithRemedy("devboxes need pid and mount namespaces: run as root, or let unprivileged users have user namespaces")
	}
	b.first = first
	giveUp := context.AfterFunc(ctx, func() { _ = first.Process.Kill() })
	defer giveUp()
	line, _ := bufio.NewReader(out).ReadString('\n')
	go func() {
		_ = first.Wait()
		close(b.done)
	}()
	if strings.TrimSpace(line) != "ready" {
		b.Stop()
		return rterr.New(rterr.Unsupported, "start a devbox", "its root cannot be made: %s", strings.TrimSpace(complaint.String())).
			WithRemedy("devboxes need mount namespaces: run as root, or let unprivileged users have user namespaces")
	}
	return nil
}

func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if Privileged() {
		attr.Cloneflags |= syscall.CLONE_NEWNET
		return attr
	}
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	return attr
}

// Stop ends every process of the devbox and returns when they are gone. It may be called again.
func (b *Box) Stop() {
	_ = b.first.Process.Kill()
	_ = b.alive.Close()
	<-b.done
	b.net.close()
}

// Done is closed when the devbox has ended, by Stop or by itself.
func (b *Box) Done() <-chan struct{} { return b.done }

// Home returns the home folder of the devbox's user, as the devbox sees it.
func (b *Box) Home() string { return b.spec.Home() }

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command prepares a program of the devbox: argv runs as its user, with its environment and env after it, in a session of its own.
// The caller sets the standard streams and starts it; it is a child of this process, and its exit status is the program's.
func (b *Box) Command(env []string, argv ...string) *exec.Cmd {
	args := []string{"--target", strconv.Itoa(b.first.Process.Pid), "--mount", "--pid", "--uts", "--ipc"}
	if Privileged() {
		id := strconv.Itoa(b.spec.UID)
		args = append(args, "--net", "--setuid", id, "--setgid", id)
	} else {
		args = append(args, "--user", "--preserve-credentials")
	}
	cmd := exec.Command("nsenter", append(append(args, "--"), argv...)...) //nolint:gosec // To run what a client says is what it is for.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append([]string{
		"PATH=" + b.spec.Home() + "/.local/bin:" + defaultPath, "HOME=" + b.spec.Home(), "USER=" + b.spec.User,
		"LOGNAME=" + b.spec.User, "SHELL=/bin/bash", "LANG=C.UTF-8",
	}, append(append([]string{}, b.spec.Env...), env...)...)
	return cmd
}

// Program returns the process that Command's program is, as this machine counts: the command's own process stands at the border of the
// namespaces and waits for it. 0 if it has ended.
func Program(cmd *exec.Cmd) int {
	pid := cmd.Process.Pid
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	child, _ := strconv.Atoi(first)
	return child
}
