package emulator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// What the service says and bounds about terminals.
const (
	ptyIdle      = 300
	ptyProtocol  = "1"
	maxSide      = 1000
	shellExited  = websocket.StatusCode(4000)
	ptyScroll    = 64 << 10
	ptyWriteWait = 10 * time.Second
)

// terminal is one PTY session of a devbox: a shell that stays when its client goes.
type terminal struct {
	name   string
	master *os.File
	cmd    *exec.Cmd
	gone   chan struct{}

	mu       sync.Mutex
	cols     int
	rows     int
	attached bool
	// missed is what was written while nobody was attached.
	missed []byte
	out    chan struct{}
}

// openTerminal starts an interactive shell.
func openTerminal(b *box.Box, name string, cols, rows int) (*terminal, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = slave.Close() }()
	t := &terminal{name: name, master: master, gone: make(chan struct{}), cols: cols, rows: rows, out: make(chan struct{})}
	t.resize(cols, rows)
	// The session and its terminal are made inside: the shell leads them there.
	t.cmd = b.Command([]string{"TERM=xterm-256color"}, "setsid", "--ctty", "--wait", "/bin/bash", "-c", `cd; exec bash -i`)
	t.cmd.Stdin, t.cmd.Stdout, t.cmd.Stderr = slave, slave, slave
	if err := t.cmd.Start(); err != nil {
		_ = master.Close()
		return nil, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		t.read()
	}()
	go func() {
		_ = t.cmd.Wait()
		<-read
		_ = master.Close()
		close(t.gone)
	}()
	return t, nil
}

// read keeps what the shell writes until a client takes it.
func (t *terminal) read() {
	buffer := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buffer)
		t.mu.Lock()
		t.missed = append(t.missed, buffer[:n]...)
		if over := len(t.missed) - ptyScroll; over > 0 && !t.attached {
			t.missed = t.missed[over:]
		}
		close(t.out)
		t.out = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take returns what was written since the last call; it blocks until there is something. ok is false when the shell has ended.
func (t *terminal) take(ctx context.Context) (p []byte, ok bool) {
	for {
		t.mu.Lock()
		p, t.missed = t.missed, nil
		out := t.out
		t.mu.Unlock()
		if len(p) > 0 {
			return p, true
		}
		select {
		case <-out:
		case <-t.gone:
			return nil, false
		case <-ctx.Done():
			return nil, true
		}
	}
}

func (t *terminal) resize(cols, rows int) {
	t.mu.Lock()
	t.cols, t.rows = cols, rows
	t.mu.Unlock()
	_ = pty.Setsize(t.master, &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}) //nolint:gosec // Both are checked to be small.
}

// signal signals the group in the foreground.
func (t *terminal) signal(sig syscall.Signal) {
	if group, err := unix.IoctlGetInt(int(t.master.Fd()), unix.TIOCGPGRP); err == nil && group > 0 {
		_ = syscall.Kill(-group, sig)
	}
}

// close ends the shell.
func (t *terminal) close() {
	if pid := box.Program(t.cmd); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGHUP)
	}
	_ = t.cmd.Process.Kill()
}

// serveTerminals is what lies behind a terminal tunnel.
func (s *Server) serveTerminals(w http.ResponseWriter, r *http.Request, d *devbox) {
	var paths router
	paths.on("GET /pty/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.connectPty(r, d) })
	paths.on("POST /pty/{name}/control", func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.controlPty(r, d) })
	paths.on("GET /pty/{name}/attach", func(w http.ResponseWriter, r *http.Request) (any, error) { return s.attachPty(w, r, d) })
	serve, err := paths.find(r)
	if err != nil {
		replyError(w, err)
		return
	}
	if status, body := result(w, r, serve); body != nil {
		sendJSON(w, r, status, body)
	}
}

// size reads cols and rows: both or neither.
func size(cols, rows string) (c, r int, given bool, err error) {
	if cols == "" && rows == "" {
		return 80, 24, false, nil
	}
	c, errC := strconv.Atoi(cols)
	r, errR := strconv.Atoi(rows)
	if errC != nil || errR != nil || c < 1 || c > maxSide || r < 1 || r > maxSide {
		return 0, 0, false, badRequest("cols and rows must both be given, from 1 to %d", maxSide)
	}
	return c, r, true, nil
}

func ptyName(r *http.Request) (string, error) {
	name := r.PathValue("name")
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`).MatchString(name) {
		return "", badRequest("Invalid session name: %q", name)
	}
	return name, nil
}

// connectPty finds a session or opens it.
func (s *Server) connectPty(r *http.Request, d *devbox) (any, error) {
	name, err := ptyName(r)
	if err != nil {
		return nil, err
	}
	cols, rows, given, err := size(r.URL.Query().Get("cols"), r.URL.Query().Get("rows"))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.status != running || d.box == nil {
		return nil, failure(http.StatusServiceUnavailable, tunnelUnavailable, "Devbox is in state %s", d.status)
	}
	t, known := d.ptys[name]
	if !known {
		if t, err = openTerminal(d.box, name, cols, rows); err != nil {
			return nil, err
		}
		d.ptys[name] = t
		s.work.Go(func() { s.forgetPty(d, t) })
	} else if given {
		t.resize(cols, rows)
	}
	return t.view(!known), nil
}

func (s *Server) forgetPty(d *devbox, t *terminal) {
	<-t.gone
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.ptys[t.name] == t {
		delete(d.ptys, t.name)
	}
}

func (t *terminal) view(created bool) map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	return map[string]any{
		"session_name": t.name, "status": "running", "protocol_version": ptyProtocol,
		"connect_url": fmt.Sprintf("/pty/%s/attach?cols=%d&rows=%d", t.name, t.cols, t.rows),
		"created":     created, "attached": t.attached, "cols": t.cols, "rows": t.rows, "idle_ttl_seconds": ptyIdle,
	}
}

func (s *Server) findPty(r *http.Request, d *devbox) (*terminal, error) {
	name, err := ptyName(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := d.ptys[name]
	if !ok {
		return nil, notFound("There is no session %s", name)
	}
	return t, nil
}

// controlPty resizes, signals or closes a session.
func (s *Server) controlPty(r *http.Request, d *devbox) (any, error) {
	body, err := decode[struct {
		Action     string
		Cols, Rows *int
		Signal     string
	}](r)
	if err != nil {
		return nil, err
	}
	t, err := s.findPty(r, d)
	if err != nil {
		return nil, err
	}
	state := "running"
	switch body.Action {
	case "resize":
		if body.Cols == nil || body.Rows == nil {
			return nil, badRequest("resize needs cols and rows")
		}
		cols, rows, _, err := size(strconv.Itoa(*body.Cols), strconv.Itoa(*body.Rows))
		if err != nil {
			return nil, err
		}
		t.resize(cols, rows)
	case "signal":
		sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(body.Signal), "SIG"))
		if sig == 0 {
			return nil, badRequest("Invalid signal: %s", body.Signal)
		}
		t.signal(sig)
	case "close":
		t.close()
		state = "closed"
		select {
		case <-t.gone:
		case <-r.Context().Done():
		}
	default:
		return nil, badRequest("Invalid action: %s", body.Action)
	}
	return map[string]any{"session_name": t.name, "status": state}, nil
}

// attachPty passes a terminal's bytes over a WebSocket, for one client at a time.
func (s *Server) attachPty(w http.ResponseWriter, r *http.Request, d *devbox) (any, error) {
	t, err := s.findPty(r, d)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	busy := t.attached
	t.attached = true
	t.mu.Unlock()
	if busy {
		return nil, conflict("Another client is attached to session %s", t.name)
	}
	defer func() {
		t.mu.Lock()
		t.attached = false
		t.mu.Unlock()
	}()
	options := websocket.AcceptOptions{InsecureSkipVerify: true}
	if asked := r.Header.Get("Sec-WebSocket-Protocol"); asked != "" {
		options.Subprotocols = []string{strings.TrimSpace(strings.Split(asked, ",")[0])}
	}
	conn, err := websocket.Accept(w, r, &options)
	if err != nil {
		return written{}, nil //nolint:nilerr // Accept has answered.
	}
	conn.SetReadLimit(maxBody)
	t.relay(s.running, conn)
	return written{}, nil
}

// relay passes bytes until the client goes or the shell ends.
func (t *terminal) relay(ctx context.Context, conn *websocket.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for {
			_, reader, err := conn.Reader(ctx)
			if err != nil {
				return
			}
			if _, err := io.Copy(t.master, reader); err != nil {
				return
			}
		}
	}()
	for {
		p, alive := t.take(ctx)
		if !alive {
			_ = conn.Close(shellExited, "shell exited")
			return
		}
		if ctx.Err() != nil {
			_ = conn.CloseNow()
			return
		}
		write, stop := context.WithTimeout(ctx, ptyWriteWait)
		err := conn.Write(write, websocket.MessageBinary, p)
		stop()
		if err != nil {
			_ = conn.CloseNow()
			return
		}
	}
}
