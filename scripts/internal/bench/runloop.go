package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// The names of what goes to the emulated Runloop.
const (
	runloopConnect = "connect on Runloop"
	runloopAPI     = "the API's own time in it"
	runloopBeyond  = "connect on Runloop beyond the API's own time"
	tunnelHTTP     = "HTTP over the tunnel"
	tunnelRun      = "run over runtime/v1 and the tunnel"
	farHTTP        = "HTTP over a tunnel of 10 ms"
	farRun         = "run over runtime/v1 and a tunnel of 10 ms"
)

// far is the round trip to a service that is not on this machine.
const far = 10 * time.Millisecond

// gauge passes requests on, lets each wait as a network would, and adds up the time in which at least one of them was under way.
type gauge struct {
	next  http.Handler
	delay atomic.Int64

	mu     sync.Mutex
	inside int
	since  time.Time
	busy   time.Duration
	// watched are requests that wait for nothing that a connect needs.
	watched func(*http.Request) bool
}

// ServeHTTP passes a request on.
func (g *gauge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 is so already.
	if g.watched(r) {
		g.next.ServeHTTP(w, r)
		return
	}
	g.move(1)
	defer g.move(-1)
	if d := g.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
	g.next.ServeHTTP(w, r)
}

func (g *gauge) move(by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside == 0 {
		g.since = time.Now()
	}
	if g.inside += by; g.inside == 0 {
		g.busy += time.Since(g.since)
	}
}

// take returns the time that was added up, and begins anew.
func (g *gauge) take() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.busy
	g.busy, g.since = 0, time.Now()
	return d
}

func newGauge(to string) (*gauge, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Transport: transport, Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
	}}
	return &gauge{next: proxy, watched: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/evictions/watch") }}, nil
}

// runloop measures the way to devboxes: an emulator behind a gauge.
func (b *bench) runloop() error {
	emu, err := emulator.Start(b.ctx, emulator.Config{})
	if err != nil {
		return err
	}
	defer emu.Close()
	api, err := newGauge(emu.URL())
	if err != nil {
		return err
	}
	front := httptest.NewServer(api)
	defer front.Close()
	tunnelAt, path, _ := strings.Cut(strings.TrimPrefix(emu.TunnelTemplate(), "http://"), "/")
	tunnel, err := newGauge("http://" + tunnelAt)
	if err != nil {
		return err
	}
	way := httptest.NewServer(tunnel)
	defer way.Close()
	d, err := b.startRunloop(front.URL, way.URL+"/"+path, emu.Key())
	if err != nil {
		return err
	}
	defer d.stop()
	if err := b.connects(d, api, tunnel); err != nil {
		return err
	}
	return b.trips(d, emu, tunnel, way.URL+"/"+path)
}

func (b *bench) startRunloop(base, template, key string) (*daemonProcess, error) {
	file := filepath.Join(b.dir, "runloop.yaml")
	text := fmt.Sprintf("default_backend: runloop\nbackends:\n  runloop:\n    plugin: runloop\n    credentials: {api_key: {env: RUNLOOP_API_KEY}}\n"+
		"    config: {base_url: %q, tunnel_url: %q, size: SMALL}\n", base, template)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return b.startDaemon("runloop", "OPENHANDS_RT_CONFIG="+file, "RUNLOOP_API_KEY="+key)
}

// connects times the making of runtimes, and how much of it was not the provider's.
func (b *bench) connects(d *daemonProcess, gauges ...*gauge) error {
	var all, own, beyond samples
	for range min(b.rounds, 20) {
		for _, g := range gauges {
			g.take()
		}
		began := time.Now()
		r, err := d.create()
		took := time.Since(began)
		if err != nil {
			return err
		}
		var theirs time.Duration
		for _, g := range gauges {
			theirs += g.take()
		}
		all, own, beyond = append(all, took), append(own, min(theirs, took)), append(beyond, max(took-theirs, 0))
		if err := d.remove(r.GetId()); err != nil {
			return err
		}
	}
	for name, s := range map[string]samples{runloopConnect: all, runloopAPI: own, runloopBeyond: beyond} {
		slices.Sort(s)
		b.at[name] = s
	}
	return nil
}

// trips times actions over the tunnel beside plain requests over it, on this machine and as if it were far away.
func (b *bench) trips(d *daemonProcess, emu *emulator.Server, tunnel *gauge, template string) error {
	r, err := d.create()
	if err != nil {
		return err
	}
	defer d.remove(r.GetId()) //nolint:errcheck // the end of a benchmark
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	address, header, err := b.agentAt(emu, template)
	if err != nil {
		return err
	}
	// The agent refuses a request without its credential at once: what it costs is the way.
	plain := func() error {
		req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		req.Header.Set("X-Runloop-Tunnel-Authorization", header)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	run := func() error { return d.run(r.GetId(), action.KindRun, action.Run{Command: "echo hi"}) }
	for _, m := range []struct {
		name   string
		delay  time.Duration
		rounds int
		fn     func() error
	}{{tunnelHTTP, 0, b.rounds, plain}, {tunnelRun, 0, b.rounds, run}, {farHTTP, far, b.rounds / 5, plain}, {farRun, far, b.rounds / 5, run}} {
		tunnel.delay.Store(int64(m.delay))
		if err := b.measure(m.name, m.rounds, m.fn); err != nil {
			return err
		}
	}
	return nil
}

// agentAt asks the emulator for the tunnel of the one devbox that runs.
func (b *bench) agentAt(emu *emulator.Server, template string) (address, header string, err error) {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, emu.URL()+"/v1/devboxes?status=running", nil)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Authorization", "Bearer "+emu.Key())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	var list struct {
		Devboxes []struct {
			Tunnel struct {
				Key   string `json:"tunnel_key"`
				Token string `json:"auth_token"`
			} `json:"tunnel"`
		} `json:"devboxes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return "", "", err
	}
	if len(list.Devboxes) != 1 {
		return "", "", fmt.Errorf("%d devboxes run, not one", len(list.Devboxes))
	}
	t := list.Devboxes[0].Tunnel
	return strings.NewReplacer("{port}", "4444", "{key}", t.Key).Replace(template) + "/", "Bearer " + t.Token, nil
}
