package repeat

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener returns l with connections that tell how their answers fared. table outlives every connection.
func Listener(l net.Listener, table *Table) net.Listener { return &listener{Listener: l, table: table} }

type listener struct {
	net.Listener
	table *Table
}

// Accept returns a *Conn.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, table: l.table}, nil
}

// Conn is a connection that says what becomes of the answers on it.
type Conn struct {
	net.Conn
	table   *Table
	current atomic.Pointer[Exchange]
	// half: our side is closed, and the kernel's state of the socket says no more how the client's side was.
	half atomic.Bool
}

type connKey struct{}

// ConnContext is for http.Server.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if conn, ok := c.(*Conn); ok {
		return context.WithValue(ctx, connKey{}, conn)
	}
	return ctx
}

// ConnOf returns the connection of a request's context; nil if its server does not listen through Listener.
func ConnOf(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// carries makes x the exchange of the connection.
func (c *Conn) carries(x *Exchange) {
	if c != nil {
		c.current.Store(x)
	}
}

// taken: another request on the connection says that the answer before was taken.
func (c *Conn) taken() { c.tell(more) }

func (c *Conn) tell(s signal) {
	if c == nil {
		return
	}
	if x := c.current.Load(); x != nil {
		x.notice(s)
	}
}

// Read is where the end of a connection shows.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case n > 0:
		c.tell(more)
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed):
	case errors.Is(err, io.EOF):
		c.tell(max(closed, c.probe()))
	default:
		c.tell(reset)
	}
	return n, err
}

// Write is where a broken connection shows.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.tell(reset)
	}
	return n, err
}

// CloseWrite ends our side alone; net/http looks for it.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection. If the answer on it was written a moment ago, our side is closed at once, and the rest is when the
// client has said whether it has the answer.
func (c *Conn) Close() error {
	if x := c.current.Load(); x != nil && c.table.lingers(c, x) {
		c.half.Store(true)
		if err := c.CloseWrite(); err == nil {
			go c.linger()
			return nil
		}
		c.table.lingered(c)
	}
	return c.Conn.Close()
}

func (t *Table) lingers(c *Conn, x *Exchange) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.state != written || t.closed || len(t.lingering) >= maxLingering {
		return false
	}
	if _, already := t.lingering[c]; already {
		return false
	}
	t.lingering[c] = struct{}{}
	t.linger.Add(1)
	return true
}

func (t *Table) lingered(c *Conn) {
	t.mu.Lock()
	delete(t.lingering, c)
	t.mu.Unlock()
	t.linger.Done()
}

// linger reads to the end of the connection; what still comes is nobody's.
func (c *Conn) linger() {
	defer c.table.lingered(c)
	defer c.Conn.Close() //nolint:errcheck // nothing can be done about it
	_ = c.Conn.SetReadDeadline(time.Now().Add(resetWindow))
	var scratch [512]byte
	for {
		if _, err := c.Read(scratch[:]); err != nil {
			return
		}
	}
}

// probe asks the kernel, without reading.
func (c *Conn) probe() signal {
	if c == nil || c.half.Load() {
		return alive
	}
	raw, ok := c.Conn.(syscall.Conn)
	if !ok {
		return alive
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return alive
	}
	found := alive
	err = rc.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			found = signalOf(info.State)
		}
	})
	if err != nil { // closed on our side: whoever did that has told
		return alive
	}
	return found
}

// The states of a connection, of Linux' tcp_states.h.
const (
	tcpTimeWait  = 6
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastAck   = 9
	tcpClosing   = 11
)

func signalOf(tcpState uint8) signal {
	switch tcpState {
	case tcpClose:
		return reset
	case tcpCloseWait, tcpLastAck, tcpClosing, tcpTimeWait:
		return closed
	default:
		return alive
	}
}
