package emulator

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The header of the tunnel's own key, and the codes of its errors.
const (
	tunnelAuthorization = "X-Runloop-Tunnel-Authorization"
	tunnelAuthRequired  = "tunnel_authentication_required"
	tunnelUnavailable   = "tunnel_unavailable"
	tunnelNotReady      = "tunnel_service_not_ready"
)

// ptyPort is the port behind which terminals are served.
const ptyPort = 13

// keyLength is that of a tunnel's key.
const keyLength = 51

// tunnel leads to the ports of one devbox. It does not change after its making.
type tunnel struct {
	devbox    *devbox
	key       string
	token     string
	created   int64
	keepAlive bool
	wake      bool
	// terminals marks a tunnel that leads to terminals alone.
	terminals bool
	transport *http.Transport
}

type tunnelView struct {
	TunnelKey     string  `json:"tunnel_key"`
	AuthMode      string  `json:"auth_mode"`
	AuthToken     *string `json:"auth_token"`
	CreateTimeMs  int64   `json:"create_time_ms"`
	HTTPKeepAlive bool    `json:"http_keep_alive"`
	WakeOnHTTP    bool    `json:"wake_on_http"`
}

func (t *tunnel) view() tunnelView {
	v := tunnelView{TunnelKey: t.key, AuthMode: "open", CreateTimeMs: t.created, HTTPKeepAlive: t.keepAlive, WakeOnHTTP: t.wake}
	if t.token != "" {
		v.AuthMode, v.AuthToken = "authenticated", &t.token
	}
	return v
}

// openTunnel makes a tunnel. The server's lock is held.
func (s *Server) openTunnel(d *devbox, authenticated bool) *tunnel {
	t := &tunnel{devbox: d, key: randomText(base36, keyLength), created: nowMs(), keepAlive: true}
	if authenticated {
		t.token = "tok_" + randomText(base62, 2*idLength)
	}
	t.transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, address string) (net.Conn, error) { return s.dialPort(ctx, d, address) },
		DisableCompression: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}
	s.state.tunnels[t.key] = t
	return t
}

// dropTunnel closes a tunnel. The server's lock is held.
func (s *Server) dropTunnel(t *tunnel) {
	if t == nil {
		return
	}
	delete(s.state.tunnels, t.key)
	t.transport.CloseIdleConnections()
}

func (s *Server) dialPort(ctx context.Context, d *devbox, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	b := d.box
	s.mu.Unlock()
	if b == nil {
		return nil, notFound("Devbox %s is not running", d.id)
	}
	return b.Dial(ctx, n)
}

// tunnelHost reads "PORT-KEY" from a host "PORT-KEY.tunnel.ANYTHING".
func tunnelHost(host string) (port int, key string, ok bool) {
	name, rest, _ := strings.Cut(host, ".")
	if rest == "" {
		return 0, "", false
	}
	return tunnelName(name)
}

func tunnelName(name string) (port int, key string, ok bool) {
	found := regexp.MustCompile(`^(\d{1,5})-([a-z0-9]{` + strconv.Itoa(keyLength) + `})$`).FindStringSubmatch(name)
	if found == nil {
		return 0, "", false
	}
	port, _ = strconv.Atoi(found[1])
	return port, found[2], true
}

// serveTunnel serves the tunnels' own listener, by host or by the first part of the path.
func (s *Server) serveTunnel(w http.ResponseWriter, r *http.Request) {
	if port, key, ok := tunnelHost(r.Host); ok {
		s.tunnel(w, r, port, key)
		return
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	port, key, ok := tunnelName(first)
	if !ok {
		replyError(w, failure(http.StatusNotFound, tunnelUnavailable, "No tunnel is meant by %s%s", r.Host, r.URL.Path))
		return
	}
	inner, err := url.Parse("/" + rest)
	if err != nil {
		replyError(w, badRequest("The path cannot be read: %v", err))
		return
	}
	r.URL.Path, r.URL.RawPath = inner.Path, inner.RawPath
	s.tunnel(w, r, port, key)
}

// tunnel serves a request to a port of a devbox.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, port int, key string) {
	s.mu.Lock()
	t := s.state.tunnels[key]
	var cuts []Fault
	if t != nil {
		cuts = s.chaos.at(r.Method, r.URL.Path, FaultTunnelCut)
		s.state.stats.Faults += len(cuts)
	}
	s.mu.Unlock()
	if t == nil || t.terminals != (port == ptyPort) {
		replyError(w, failure(http.StatusNotFound, tunnelUnavailable, "There is no such tunnel"))
		return
	}
	if !t.admits(r) {
		replyError(w, failure(http.StatusUnauthorized, tunnelAuthRequired, "This tunnel needs its auth token"))
		return
	}
	if t.terminals {
		s.serveTerminals(w, r, t.devbox)
		return
	}
	if err := s.wake(r.Context(), t); err != nil {
		replyError(w, err)
		return
	}
	if len(cuts) > 0 {
		w = &cutWriter{w}
	}
	t.forward(w, r, port)
}

// admits checks a tunnel's key, which may come in either header or, for browsers' WebSockets, as a sub-protocol. It does not go on to
// the devbox.
func (t *tunnel) admits(r *http.Request) bool {
	own := r.Header.Get(tunnelAuthorization)
	r.Header.Del(tunnelAuthorization)
	if t.token == "" {
		return true
	}
	match := func(token string) bool { return subtle.ConstantTimeCompare([]byte(token), []byte(t.token)) == 1 }
	if token, ok := strings.CutPrefix(own, "Bearer "); ok {
		return match(token)
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && match(token) {
		r.Header.Del("Authorization")
		return true
	}
	for protocol := range strings.SplitSeq(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if match(strings.TrimSpace(protocol)) {
			return true
		}
	}
	return false
}

// wake notes that a devbox is used, and resumes a suspended one whose tunnel says so.
func (s *Server) wake(ctx context.Context, t *tunnel) error {
	d := t.devbox
	s.mu.Lock()
	if t.keepAlive {
		d.lastUse = time.Now()
	}
	at := d.status
	s.mu.Unlock()
	if at == running {
		return nil
	}
	if !t.wake || at.terminal() {
		return failure(http.StatusServiceUnavailable, tunnelUnavailable, "Devbox is in state %s", at)
	}
	s.resume(d)
	ctx, cancel := context.WithTimeout(ctx, bootWait)
	defer cancel()
	if st := s.awaitStatus(ctx, d, func(st status) bool { return st == running || st.terminal() }); st != running {
		return failure(http.StatusServiceUnavailable, tunnelUnavailable, "Devbox is in state %s", st)
	}
	return nil
}

// forward passes a request on: streams are not held back, an upgraded connection is passed both ways, and the host stays as it was.
func (t *tunnel) forward(w http.ResponseWriter, r *http.Request, port int) {
	// An answer may begin before the request has been passed on whole: net/http must not take the rest of it away then.
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 is so already.
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
		Transport: t.transport, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			f := failure(http.StatusServiceUnavailable, tunnelNotReady, "Port %d does not answer: %v", port, err)
			f.Retry = "true"
			replyError(w, f)
		},
	}
	proxy.ServeHTTP(w, r)
}

// cutWriter cuts a connection after the first bytes of an answer.
type cutWriter struct{ http.ResponseWriter }

// Write writes and cuts.
func (c *cutWriter) Write(p []byte) (int, error) {
	_, _ = c.ResponseWriter.Write(p[:len(p)/2])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func (s *Server) tunnelRoutes() {
	s.routes.on("POST /v1/devboxes/{id}/enable_tunnel", s.enableTunnel)
	s.routes.on("POST /v1/devboxes/{id}/remove_tunnel", s.removeTunnel)
	s.routes.on("POST /v1/devboxes/{id}/create_pty_tunnel", s.createPtyTunnel)
	s.routes.on("POST /v1/devboxes/{id}/create_tunnel", s.createTunnel)
}

// tunnelRequest is how a tunnel is asked for, by itself or with a devbox.
type tunnelRequest struct {
	AuthMode      *string `json:"auth_mode"`
	HTTPKeepAlive *bool   `json:"http_keep_alive"`
	WakeOnHTTP    *bool   `json:"wake_on_http"`
}

func (q tunnelRequest) check() error {
	if q.AuthMode != nil && *q.AuthMode != "open" && *q.AuthMode != "public" && *q.AuthMode != "authenticated" {
		return badRequest("Invalid auth_mode: %s", *q.AuthMode)
	}
	return nil
}

// give opens a devbox's tunnel as it is asked for. The server's lock is held.
func (s *Server) give(d *devbox, q tunnelRequest) *tunnel {
	t := s.openTunnel(d, q.AuthMode != nil && *q.AuthMode == "authenticated")
	if q.HTTPKeepAlive != nil {
		t.keepAlive = *q.HTTPKeepAlive
	}
	t.wake = q.WakeOnHTTP != nil && *q.WakeOnHTTP
	if l := d.launch.Lifecycle; l != nil && l.ResumeTriggers != nil && l.ResumeTriggers.HTTP != nil {
		t.wake = *l.ResumeTriggers.HTTP
	}
	d.tunnel = t
	return t
}

func (s *Server) enableTunnel(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[tunnelRequest](r)
	if err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	d, _, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.tunnel != nil {
		return nil, badRequest("Devbox %s already has a tunnel", d.id)
	}
	return s.give(d, body).view(), nil
}

func (s *Server) removeTunnel(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.devbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s.dropTunnel(d.tunnel)
	d.tunnel = nil
	return struct{}{}, nil
}

func (s *Server) createPtyTunnel(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, _, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.openTunnel(d, true)
	t.terminals = true
	return map[string]any{"tunnel_key": t.key, "auth_token": t.token}, nil
}

// createTunnel is the way of old clients: a URL for one port, open to all.
func (s *Server) createTunnel(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct{ Port int }](r)
	if err != nil {
		return nil, err
	}
	if body.Port < 1 || body.Port > 65535 {
		return nil, badRequest("Invalid port: %d", body.Port)
	}
	d, _, err := s.runningDevbox(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.tunnel == nil {
		s.give(d, tunnelRequest{})
	}
	return map[string]any{"devbox_id": d.id, "port": body.Port, "url": s.portURL(body.Port, d.tunnel.key)}, nil
}

func (s *Server) portURL(port int, key string) string {
	return strings.NewReplacer("{port}", strconv.Itoa(port), "{key}", key).Replace(s.TunnelTemplate())
}
