package kernel

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"

	"github.com/openhands-rt/openhands-rt/sdk/agent/socket"
)

// link is a connection to one of the kernel's sockets. One goroutine may receive while another sends.
type link struct {
	name string
	conn *zmq4.Conn
	raw  net.Conn
	send chan struct{}
}

// connect connects to a socket of the kernel's. Only the connections of the library are used, not its sockets: those reconnect,
// queue and wait in goroutines of their own, and a kernel's death has to be seen at once.
func (c Config) connect(ctx context.Context, name string, port int, kind zmq4.SocketType) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, waitConnect)
	defer cancel()
	raw, err := socket.Dial(ctx, filepath.Join(c.Dir, socketPrefix+"-"+strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("connect to the kernel's %s channel: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // Ends the handshake.
	defer stop()
	conn, err := zmq4.Open(newBoundedConn(raw), null.Security(), kind, zmq4.SocketIdentity(name), false, func(*zmq4.Conn) {})
	if err == nil && kind == zmq4.Sub {
		err = conn.SendMsg(zmq4.NewMsg([]byte{1})) // Subscribes to everything.
	}
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("connect to the kernel's %s channel: %w", name, err)
	}
	return &link{name: name, conn: conn, raw: raw, send: make(chan struct{}, 1)}, nil
}

// write sends a message. A kernel that does not take it in time is no kernel any more: the link is broken then.
func (l *link) write(frames [][]byte) error {
	l.send <- struct{}{}
	defer func() { <-l.send }()
	if err := l.raw.SetWriteDeadline(time.Now().Add(waitSend)); err != nil {
		return err
	}
	if err := l.conn.SendMsg(zmq4.NewMsgFrom(frames...)); err != nil {
		_ = l.raw.Close() // Half a message may have been sent.
		return fmt.Errorf("send on the kernel's %s channel: %w", l.name, err)
	}
	return nil
}

// read waits for a message.
func (l *link) read() ([][]byte, error) {
	m, err := l.conn.RecvMsg()
	if err != nil {
		return nil, fmt.Errorf("read from the kernel's %s channel: %w", l.name, err)
	}
	return m.Frames, nil
}

func (l *link) close() { _ = l.raw.Close() } // Whatever was in it is of no use to anybody.

// links are those that are needed: the kernel asks nothing on its stdin channel, and its heartbeat says nothing that its death does not.
type links struct{ shell, control, iopub *link }

// connectAll connects all of them, or none.
func (c Config) connectAll(ctx context.Context) (l links, err error) {
	if l.shell, err = c.connect(ctx, "shell", portShell, zmq4.Dealer); err != nil {
		return l, err
	}
	if l.control, err = c.connect(ctx, "control", portControl, zmq4.Dealer); err == nil {
		l.iopub, err = c.connect(ctx, "iopub", portIOPub, zmq4.Sub)
	}
	if err != nil {
		l.close()
	}
	return l, err
}

func (l links) close() {
	for _, one := range []*link{l.shell, l.control, l.iopub} {
		if one != nil {
			one.close()
		}
	}
}
