// Package hosttest is a host for the tests of the command line: runtime/v1 on a real listener with a key, whose sandboxes are
// plain folders and whose actions are plain processes of the test's machine. Its connections can be cut at any byte.
package hosttest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// Key is the API key of every Host.
const Key = "test-key"

// Host is a host. Make it with New.
type Host struct {
	// DataDir has the endpoint file and the key file.
	DataDir string
	// URL of the API.
	URL string
	// Nibble makes SendInput take a part of each piece only.
	Nibble bool

	t        testing.TB
	listener net.Listener
	server   *http.Server
	ended    context.Context
	end      context.CancelFunc
	work     sync.WaitGroup

	mu       sync.Mutex
	runtimes map[string]*box
	order    []string
	actions  map[string]*act
	added    chan struct{} // closed and replaced when a runtime is made
	started  int
	asked    proto.Message
	stopped  []string
	cutWrite func() int64
	cutRead  func() int64
	cuts     int
}

// New starts a host that ends with the test, with all that runs in it.
func New(t testing.TB) *Host {
	t.Helper()
	h := &Host{t: t, DataDir: t.TempDir(), runtimes: map[string]*box{}, added: make(chan struct{}), actions: map[string]*act{}}
	h.ended, h.end = context.WithCancel(context.Background())
	h.Start()
	t.Cleanup(h.close)
	return h
}

// Start listens, and says where in the endpoint file: at the beginning, and again after Stop, at another port.
func (h *Host) Start() {
	h.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.listener = ln
	h.URL = "http://" + ln.Addr().String()
	h.server = &http.Server{Handler: h.handler()}
	h.work.Go(func() { _ = h.server.Serve(&cutListener{ln, h}) })
	key := filepath.Join(h.DataDir, "api.key")
	raw, _ := json.Marshal(map[string]string{"url": h.URL, "sandbox_url": h.URL, "key_file": key})
	for path, content := range map[string]string{key: Key + "\n", filepath.Join(h.DataDir, "endpoint.json"): string(raw)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

// Stop closes the listener and every connection; runtimes and actions go on.
func (h *Host) Stop() {
	_ = h.listener.Close() // the server may not know it yet
	_ = h.server.Close()
}

func (h *Host) close() {
	h.end()
	h.mu.Lock()
	list := make([]*act, 0, len(h.actions))
	for _, a := range h.actions {
		list = append(list, a)
	}
	h.mu.Unlock()
	for _, a := range list {
		a.destroy()
	}
	h.Stop()
	h.work.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.runtimes {
		_ = b.files.Close()
	}
}

func (h *Host) handler() http.Handler {
	mux := http.NewServeMux()
	path, handler := runtimev1connect.NewRuntimeServiceHandler(runtimes{h: h})
	mux.Handle(path, handler)
	path, handler = runtimev1connect.NewActionServiceHandler(actions{h: h})
	mux.Handle(path, handler)
	path, handler = runtimev1connect.NewFileServiceHandler(fileRPC{h: h})
	mux.Handle(path, handler)
	path, handler = runtimev1connect.NewWorkspaceServiceHandler(workspaces{h: h})
	mux.Handle(path, handler)
	mux.HandleFunc("/v1/runtimes/{id}/files", h.serveFiles)
	errors := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+Key {
			mux.ServeHTTP(w, r)
			return
		}
		err := rterr.New(rterr.Unauthenticated, "", "bad key")
		if errors.IsSupported(r) {
			_ = errors.Write(w, r, rthttp.ToConnect(err))
			return
		}
		rthttp.Write(w, err)
	})
}

// CutWrites cuts each connection once it has sent as many bytes to the client as next says, counted from now or from its
// beginning; 0 spares the connection. CutReads is the same for what comes from the client. nil ends it.
func (h *Host) CutWrites(next func() int64) { h.set(&h.cutWrite, next) }

// CutReads is described at CutWrites.
func (h *Host) CutReads(next func() int64) { h.set(&h.cutRead, next) }

func (h *Host) set(field *func() int64, next func() int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*field = next
}

// Cuts is the number of connections that were cut.
func (h *Host) Cuts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cuts
}

// Stopped returns the ids of the runtimes that were stopped, in order.
func (h *Host) Stopped() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.stopped...)
}

// Started is the number of processes that were started.
func (h *Host) Started() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.started
}

// Add makes a runtime that is ready, with an id and a sid, and returns its folder.
func (h *Host) Add(id, sid string) string {
	h.t.Helper()
	return h.add(id, &runtimev1.CreateRuntimeRequest{Sid: sid}).dir
}

// cutListener and cutConn cut connections.
type cutListener struct {
	net.Listener
	h *Host
}

// Accept implements net.Listener.
func (l *cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: c, h: l.h, write: -1, read: -1}, nil
}

type cutConn struct {
	net.Conn
	h           *Host
	mu          sync.Mutex
	write, read int64 // bytes left; -1: not limited yet
}

// take returns how many of n bytes may pass, and whether the connection ends with them.
func (c *cutConn) take(left *int64, next func() int64, n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if next == nil {
		*left = -1
		return n, false
	}
	if *left < 0 {
		if *left = next(); *left == 0 {
			*left = 1 << 62
		}
	}
	if int64(n) < *left {
		*left -= int64(n)
		return n, false
	}
	return int(*left), true
}

func (c *cutConn) limit(field *func() int64) func() int64 {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	return *field
}

func (c *cutConn) cut() {
	c.h.mu.Lock()
	c.h.cuts++
	c.h.mu.Unlock()
	_ = c.Conn.Close()
}

// Write implements net.Conn.
func (c *cutConn) Write(p []byte) (int, error) {
	n, last := c.take(&c.write, c.limit(&c.h.cutWrite), len(p))
	if !last {
		return c.Conn.Write(p)
	}
	_, _ = c.Conn.Write(p[:n])
	c.cut()
	return n, net.ErrClosed
}

// Read implements net.Conn.
func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		if passed, last := c.take(&c.read, c.limit(&c.h.cutRead), n); last {
			c.cut()
			return passed, net.ErrClosed
		}
	}
	return n, err
}

// WaitRuntime waits until there is a runtime of an id; false if ctx ends first.
func (h *Host) WaitRuntime(ctx context.Context, id string) bool {
	for {
		h.mu.Lock()
		_, there := h.runtimes[id]
		added := h.added
		h.mu.Unlock()
		if there {
			return true
		}
		select {
		case <-added:
		case <-ctx.Done():
			return false
		}
	}
}
