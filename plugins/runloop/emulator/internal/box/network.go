package box

import (
	"context"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// dialWait bounds how long a port of a devbox may take to accept; all of it is this machine's own loopback.
const dialWait = 5 * time.Second

// network is the network namespace of a devbox; nil where the devbox shares the machine's.
type network struct{ namespace *os.File }

// openNetwork opens a devbox's network namespace and switches its loopback on.
func openNetwork(pid int) (*network, error) {
	namespace, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "open a devbox's network", err)
	}
	n := &network{namespace}
	if err := n.inside(loopbackUp); err != nil {
		n.close()
		return nil, rterr.Wrap(rterr.Internal, "switch a devbox's loopback on", err)
	}
	return n, nil
}

func (n *network) close() {
	if n != nil {
		_ = n.namespace.Close()
	}
}

// inside runs a function on a thread that is in the namespace. The thread ends with it: it is never used for anything else.
func (n *network) inside(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(n.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	return <-done
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// Dial connects to a TCP port of the devbox.
func (b *Box) Dial(ctx context.Context, port int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialWait}
	if b.net == nil {
		return dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	var conn net.Conn
	err := b.net.inside(func() (err error) {
		// One address and no name: the dial stays on this thread up to the socket, which is what the namespace decides.
		conn, err = dialer.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return err
	})
	return conn, err
}
