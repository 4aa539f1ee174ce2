package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// cut is where a proxy resets the connections of one request.
type cut int

const (
	cutNever cut = iota
	// cutUnsent: before the request is passed on.
	cutUnsent
	// cutSent: as soon as it has been.
	cutSent
	// cutRunning: once its command has had its effect, and before its end.
	cutRunning
	// cutAnswering: in the middle of the answer.
	cutAnswering
	// cutAnswered: the proxy has the whole answer, the client none of it.
	cutAnswered
	cuts
)

// armed is a cut that waits for its request. effect waits until the command that is under way has had its effect.
type armed struct {
	at     cut
	effect func()
}

// cutter is a proxy before the daemon that resets connections, as a bad network does: RST to both sides.
type cutter struct {
	t        *testing.T
	listener net.Listener
	target   string
	armed    chan armed
	all      sync.WaitGroup
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{t: t, listener: l, target: target, armed: make(chan armed, 1)}
	p.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.pass(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return p
}

// front is a session's URL through the proxy.
func (p *cutter) front(s *session) *session {
	through := *s
	through.url = "http://" + p.listener.Addr().String() + "/" + s.id
	through.client = &http.Client{Transport: &http.Transport{}}
	p.t.Cleanup(through.client.CloseIdleConnections)
	return &through
}

// pass serves one connection of a client, request by request.
func (p *cutter) pass(down *net.TCPConn) {
	defer down.Close()
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	requests, answers := bufio.NewReader(down), bufio.NewReader(up)
	for {
		req, err := http.ReadRequest(requests)
		if err != nil {
			return // an orderly close goes on as one
		}
		var now armed
		now.at = cutNever
		select {
		case now = <-p.armed:
		default:
		}
		at := now.at
		if at == cutUnsent {
			reset(down, up)
			return
		}
		if err := req.Write(up); err != nil {
			return
		}
		switch at {
		case cutSent:
			reset(down, up)
			return
		case cutRunning:
			now.effect()
			reset(down, up)
			return
		}
		answer, err := whole(answers, req)
		if err != nil {
			return
		}
		switch at {
		case cutAnswering:
			_, _ = down.Write(answer[:len(answer)-5])
			reset(down, up)
			return
		case cutAnswered:
			reset(down, up)
			return
		}
		if _, err := down.Write(answer); err != nil {
			return
		}
	}
}

// whole reads an answer to its last byte.
func whole(from *bufio.Reader, req *http.Request) ([]byte, error) {
	resp, err := http.ReadResponse(from, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	err = resp.Write(&b)
	return b.Bytes(), err
}

// reset cuts both sides, in either order: a network has none.
func reset(down *net.TCPConn, up net.Conn) {
	sides := []*net.TCPConn{down, up.(*net.TCPConn)}
	if rand.IntN(2) == 0 {
		sides[0], sides[1] = sides[1], sides[0]
	}
	for _, c := range sides {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// counting appends a line and says how many there are: run twice, the numbers jump.
const counting = `echo x >> ledger; wc -l < ledger`

// ledger is that file, as the machine sees it; empty while it is not there.
func (d *daemon) ledger() string {
	found, _ := filepath.Glob(filepath.Join(d.dir, "data", "backends", "local", "*", "*", "workspace", "ledger"))
	if more, _ := filepath.Glob(filepath.Join(d.dir, "data", "backends", "local", "*", "workspace", "ledger")); len(more) > 0 {
		found = append(found, more...)
	}
	if len(found) == 0 {
		return ""
	}
	return readKept(found[0])
}

// awaitLines blocks until the ledger has n lines.
func (d *daemon) awaitLines(n int) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if strings.Count(d.ledger(), "\n") >= n {
			return
		}
		time.Sleep(2 * time.Millisecond) // a file of another process is no event for us
	}
	d.t.Errorf("the ledger does not get %d lines", n)
}

func contentOf(t *testing.T, answer string) string {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(answer), &o); err != nil || o["observation"] != "run" {
		t.Fatalf("%s", answer)
	}
	return strings.TrimSpace(text(o, "content"))
}

// TestTwoHundredCutsRunNothingTwice is done-when 4: equal requests all the way, cut at every point, each retried as the original's
// client does; and then as many answered ones that are equal too.
func TestTwoHundredCutsRunNothingTwice(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	direct := d.remote().begin("s1")
	direct.run("true")
	u, err := url.Parse(direct.url)
	if err != nil {
		t.Fatal(err)
	}
	p := newCutter(t, u.Host)
	s := p.front(direct)
	body := event("run", object{"command": counting + "; sleep 0.05"}, 60)
	const n = 200
	for i := 1; i <= n; i++ {
		at := cut(1 + i%int(cuts-1))
		p.armed <- armed{at, func() { d.awaitLines(i) }}
		answer, err := s.execute(body)
		if err != nil {
			t.Fatalf("request %d, cut at %d: %v", i, at, err)
		}
		if got := contentOf(t, answer); got != fmt.Sprint(i) {
			t.Fatalf("request %d, cut at %d: %s lines", i, at, got)
		}
		s.client.CloseIdleConnections() // an orderly close, before the next cut can hit a connection with an answer on it
	}
	for i := n + 1; i <= n+50; i++ {
		answer, err := s.once(body)
		s.client.CloseIdleConnections()
		if err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, answer); got != fmt.Sprint(i) {
			t.Fatalf("request %d: %s lines", i, got)
		}
	}
	if lines := strings.Count(d.ledger(), "\n"); lines != n+50 {
		t.Errorf("%d runs, want %d", lines, n+50)
	}
	o := d.remote()
	_, metrics := o.raw(http.MethodGet, "/metrics", nil)
	found := regexp.MustCompile(`(?m)^openhands_rt_repeated_requests_total (\d+)$`).FindStringSubmatch(metrics)
	if found == nil {
		t.Fatal("repeats are not counted")
	}
	// What was cut while it ran, in its answer or behind it was there to be repeated; of what was cut before, some was.
	if repeats, _ := strconv.Atoi(found[1]); repeats < n*3/5 || repeats > n {
		t.Errorf("%d repeats of %d cuts are counted", repeats, n)
	}
}

// fixPort gives the sandboxes' listener an address that a restart keeps.
func (d *daemon) fixPort() {
	d.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.env = append(d.env, "OPENHANDS_RT_SANDBOX_LISTEN="+l.Addr().String())
	_ = l.Close()
}

// patient sends a request until it is answered: the original's rule, for as long as a restart takes.
func (s *session) patient(body string) (string, error) {
	for deadline := time.Now().Add(limit); ; {
		answer, err := s.execute(body)
		if err == nil || !errors.Is(err, errRetry) || time.Now().After(deadline) {
			return answer, err
		}
	}
}

func TestARequestThatTheHostsDeathCutRunsOnce(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.fixPort()
	d.start()
	s := d.remote().begin("s1")
	body := event("run", object{"command": counting + "; sleep 3"}, 60)
	const n = 5
	for i := 1; i <= n; i++ {
		result := make(chan string, 1)
		go func() {
			answer, err := s.patient(body)
			result <- answer + fmt.Sprint(err)
		}()
		d.awaitLines(i)
		if i == n {
			d.stop() // as an operator does: the request is cut all the same
		} else {
			d.kill()
		}
		d.start()
		answer := strings.TrimSuffix(<-result, "<nil>")
		if got := contentOf(t, answer); got != fmt.Sprint(i) {
			t.Fatalf("request %d: %s lines", i, got)
		}
	}
	d.stop()
	d.start()
	for i := n + 1; i <= n+3; i++ {
		answer, err := s.patient(body)
		if err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, answer); got != fmt.Sprint(i) {
			t.Errorf("request %d after the restart: %s lines", i, got)
		}
	}
}

func TestEqualRequestsAtOnceAreTwo(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	body := event("run", object{"command": counting + "; sleep 0.3"}, 60)
	results := make(chan string, 2)
	for range 2 {
		go func() {
			answer, err := s.once(body)
			results <- answer + fmt.Sprint(err)
		}()
	}
	a, b := contentOf(t, strings.TrimSuffix(<-results, "<nil>")), contentOf(t, strings.TrimSuffix(<-results, "<nil>"))
	if a == b {
		t.Errorf("both are run %s", a)
	}
}

func TestAClientThatGoesAwayInterruptsNothing(t *testing.T) {
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	s := d.remote().begin("s1")
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	body := event("run", object{"command": counting + "; sleep 1; echo end"}, 60)
	fmt.Fprintf(c, "POST %s/execute_action HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: %s\r\nContent-Length: %d\r\n\r\n%s", u.Path, s.key, len(body), body)
	d.awaitLines(1)
	_ = c.Close()
	if got := s.content("cat ledger"); got != "x" { // waits for its turn
		t.Errorf("%q", got)
	}
	if answer, err := s.once(body); err != nil || contentOf(t, answer) != "1\nend" {
		t.Errorf("the answer that nobody took: %s, %v", answer, err)
	}
}
