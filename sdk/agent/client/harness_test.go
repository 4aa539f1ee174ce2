package client_test

import (
	"context"

	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/agent/ports"
	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/agent/socket"
)

const credential = "sesame-and-much-more"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agentUnderTest is a server on a unix socket with a fake engine.
type agentUnderTest struct {
	engine *fakeEngine
	tree   *fakeTree
	dir    string
	path   string
	ended  chan error
	stop   context.CancelFunc
}

func start(t testing.TB, change ...func(*server.Config, *files.Config)) *agentUnderTest {
	t.Helper()
	a := &agentUnderTest{engine: newFakeEngine(), tree: &fakeTree{}, dir: t.TempDir(), ended: make(chan error, 1)}
	a.path = filepath.Join(t.TempDir(), "a.sock")
	cfg := server.Config{
		Engine: a.engine, Tree: a.tree, Credential: credential,
		Identity: server.Identity{Nonce: "n-1", SandboxID: "s-1", RuntimeID: "r-1", Generation: 7, Username: "u", Workspace: a.dir, Home: "/home/u", Version: "v"},
	}
	fileCfg := files.Config{Workspace: a.dir, StateDir: t.TempDir()}
	for _, c := range change {
		c(&cfg, &fileCfg)
	}
	service, err := files.New(fileCfg)
	if err != nil {
		t.Fatal(err)
	}
	proxy := ports.New(ports.Config{})
	cfg.Files, cfg.Ports = service, proxy
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := socket.Listen(a.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.ended <- s.Serve(ctx, ln)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		proxy.Close()
		_ = service.Close()
	})
	return a
}

func (a *agentUnderTest) client(t testing.TB) *client.Client {
	return dial(t, "unix://"+a.path, credential)
}

func dial(t testing.TB, address, secret string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: address, Credential: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// cutter is a TCP proxy to a unix socket that can be told to cut: every connection at once, or each after some bytes.
type cutter struct {
	ln    net.Listener
	to    string
	mu    sync.Mutex
	conns map[net.Conn]bool
	// budget is how many bytes may pass, in both directions, before a cut; each cut takes the next one. No budget: never.
	budgets []int64
	cuts    atomic.Int64
	wg      sync.WaitGroup
}

func newCutter(t testing.TB, to string, budgets ...int64) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{ln: ln, to: to, conns: map[net.Conn]bool{}, budgets: budgets}
	c.wg.Add(1)
	go c.accept()
	t.Cleanup(func() {
		_ = ln.Close()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) address() string { return "http://" + c.ln.Addr().String() }

func (c *cutter) accept() {
	defer c.wg.Done()
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("unix", c.to)
		if err != nil {
			_ = conn.Close()
			continue
		}
		left := &atomic.Int64{}
		left.Store(1 << 60)
		c.mu.Lock()
		if len(c.budgets) > 0 {
			left.Store(c.budgets[0])
			c.budgets = c.budgets[1:]
		}
		c.conns[conn], c.conns[up] = true, true
		c.mu.Unlock()
		c.wg.Add(2)
		go c.pump(conn, up, left)
		go c.pump(up, conn, left)
	}
}

func (c *cutter) pump(dst, src net.Conn, left *atomic.Int64) {
	defer c.wg.Done()
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && left.Add(-int64(n)) < 0 {
			c.cuts.Add(1)
			return
		}
		if _, writeErr := dst.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		_ = conn.Close()
		delete(c.conns, conn)
	}
	c.cuts.Add(1)
}

// soon bounds a wait for an event that must come; it is no measure of speed.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func ended(t testing.TB, a *agentUnderTest) error {
	t.Helper()
	select {
	case err := <-a.ended:
		return err
	case <-soon(t).Done():
		t.Fatal("the agent did not end")
		return nil
	}
}

// serveHTTP serves h on loopback until the test ends, and returns its URL.
func serveHTTP(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return "http://" + ln.Addr().String()
}

func mkfifo(t testing.TB, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}
