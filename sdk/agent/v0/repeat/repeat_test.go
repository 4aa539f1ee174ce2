package repeat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait; nothing should ever take so long.
const limit = time.Minute

// service is a server over a table. An action runs when its id is new; its answer is its number.
type service struct {
	t     *testing.T
	table *Table
	addr  string
	// hold, if set, is waited for in each handler before it answers.
	hold chan struct{}
	// begun gets the id of the action of each request that has begun.
	begun chan string
	// wrote gets what Written said of each answer.
	wrote chan bool

	mu   sync.Mutex
	runs map[string]int // number by action id
	next atomic.Int64
}

func bodyOf(body string) string {
	h := Digest()
	_, _ = io.WriteString(h, body)
	return BodyOf(h)
}

func serve(t *testing.T, change ...func(*service)) *service {
	t.Helper()
	s := &service{t: t, table: NewTable(), runs: map[string]int{}, begun: make(chan string, 1000), wrote: make(chan bool, 1000)}
	for _, c := range change {
		c(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ConnContext: ConnContext, ReadHeaderTimeout: limit}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(Listener(l, s.table)) }()
	s.addr = l.Addr().String()
	t.Cleanup(func() { _ = server.Close(); <-done; s.table.Close() })
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	key := Key{Runtime: "r", Generation: 1, Body: bodyOf(string(body))}
	x, err := s.table.Begin(r.Context(), key, ConnOf(r.Context()), func() string {
		return IDOf(key.Body, fmt.Sprint(s.next.Add(1)))
	})
	if err != nil {
		return
	}
	s.begun <- x.Action
	if s.hold != nil {
		<-s.hold
	}
	x.Answering()
	answer := fmt.Sprint(s.run(x.Action)) + strings.Repeat(" ", len(body)) // a large request gets a large answer
	w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
	_, err = io.WriteString(w, answer)
	s.wrote <- x.Written(errors.Join(err, http.NewResponseController(w).Flush()))
}

func (s *service) run(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs[action] == 0 {
		s.runs[action] = len(s.runs) + 1
	}
	return s.runs[action]
}

func (s *service) ran() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.runs)
}

// settledTo waits until the table remembers n exchanges.
func (s *service) settledTo(n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	for {
		s.table.mu.Lock()
		changed := s.table.changed
		s.table.mu.Unlock()
		if s.table.Len() == n {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s.t.Fatalf("%d exchanges are remembered, want %d", s.table.Len(), n)
		}
	}
}

// client is one connection to the service.
type client struct {
	t *testing.T
	*net.TCPConn
	r *bufio.Reader
}

func (s *service) dial() *client {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	tcp := c.(*net.TCPConn)
	s.t.Cleanup(func() { _ = tcp.Close() })
	_ = tcp.SetDeadline(time.Now().Add(limit))
	return &client{t: s.t, TCPConn: tcp, r: bufio.NewReader(tcp)}
}

func (c *client) send(body string, headers ...string) {
	c.t.Helper()
	head := "POST / HTTP/1.1\r\nHost: x\r\n" + strings.Join(append(headers, ""), "\r\n")
	if _, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) answer() string {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

// cut resets the connection.
func (c *client) cut() {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func (s *service) ask(body string, headers ...string) string {
	s.t.Helper()
	c := s.dial()
	defer c.Close()
	c.send(body, headers...)
	return c.answer()
}

func TestARequestThatWasCutWhileItRanIsRepeated(t *testing.T) {
	for name, end := range map[string]func(*client){"reset": (*client).cut, "closed": func(c *client) { _ = c.Close() }} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(s *service) { s.hold = make(chan struct{}) })
			first := s.dial()
			first.send("x")
			action := <-s.begun
			end(first)
			again := s.dial()
			again.send("x")
			if got := <-s.begun; got != action {
				t.Errorf("the repeat is action %s, want %s", got, action)
			}
			close(s.hold)
			if again.answer() != "1" || s.ran() != 1 {
				t.Errorf("%d runs", s.ran())
			}
			_ = again.Close()
			s.settledTo(0)
			if s.ask("x") != "2" {
				t.Error("an answered request was repeated")
			}
		})
	}
}

func TestAnAnswerThatWasResetIsRepeated(t *testing.T) {
	for name, headers := range map[string][]string{"kept alive": nil, "closed by the server": {"Connection: close"}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			first := s.dial()
			first.send("x", headers...)
			if _, err := first.r.Peek(1); err != nil { // it is there, and nobody has read it
				t.Fatal(err)
			}
			first.cut()
			if got := s.ask("x"); got != "1" {
				t.Errorf("after the reset: run %s", got)
			}
			if got := s.ask("x"); got != "2" {
				t.Errorf("after the answer: run %s", got)
			}
		})
	}
}

func TestAnOrderlyCloseTakesTheAnswer(t *testing.T) {
	for name, headers := range map[string][]string{"kept alive": nil, "closed by the server": {"Connection: close"}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			for i := 1; i <= 50; i++ {
				if got := s.ask("x", headers...); got != fmt.Sprint(i) {
					t.Fatalf("request %d is run %s", i, got)
				}
			}
			s.settledTo(0)
		})
	}
}

func TestTheNextRequestOnAConnectionTakesTheAnswer(t *testing.T) {
	s := serve(t)
	c := s.dial()
	for i := 1; i <= 20; i++ {
		c.send("x")
		if got := c.answer(); got != fmt.Sprint(i) {
			t.Fatalf("request %d is run %s", i, got)
		}
	}
	c.cut() // the last answer was read by the client, but nothing says so
	if got := s.ask("x"); got != "20" {
		t.Errorf("after the reset: run %s", got)
	}
}

func TestAnAnswerCutInTheMiddleIsRepeated(t *testing.T) {
	s := serve(t)
	body := strings.Repeat("y", 8<<20) // more than the socket buffers hold
	first := s.dial()
	_ = first.SetReadBuffer(4 << 10)
	first.send(body)
	if _, err := first.r.Peek(100); err != nil {
		t.Fatal(err)
	}
	first.cut()
	if got := s.ask(body); got != "1" {
		t.Errorf("after the cut: run %s", got)
	}
	if got := s.ask(body); got != "2" {
		t.Errorf("after the answer: run %s", got)
	}
}

func TestTwoEqualRequestsAtOnceAreTwo(t *testing.T) {
	s := serve(t, func(s *service) { s.hold = make(chan struct{}) })
	a, b := s.dial(), s.dial()
	a.send("x")
	first := <-s.begun
	b.send("x")
	if second := <-s.begun; second == first {
		t.Error("the second is the first's repeat")
	}
	close(s.hold)
	if a.answer() == b.answer() || s.ran() != 2 {
		t.Errorf("%d runs", s.ran())
	}
}

func TestARequestWaitsForTheCutOfAnEqualOne(t *testing.T) {
	waiting := make(chan struct{}, 1)
	s := serve(t, func(s *service) {
		s.hold = make(chan struct{})
		s.table.onWait = func() { waiting <- struct{}{} }
	})
	first, again := s.dial(), s.dial()
	first.send("x")
	action := <-s.begun
	again.send("x")
	<-waiting // the proxy has let the client's retry through before it cuts our side
	first.cut()
	if got := <-s.begun; got != action {
		t.Errorf("action %s, want %s", got, action)
	}
	close(s.hold)
	if again.answer() != "1" {
		t.Errorf("%d runs", s.ran())
	}
}

func TestOtherBodiesAreOtherRequests(t *testing.T) {
	s := serve(t, func(s *service) { s.hold = make(chan struct{}) })
	c := s.dial()
	c.send("x")
	<-s.begun
	c.cut()
	close(s.hold)
	if a, b := s.ask("x "), s.ask("X"); a == b {
		t.Errorf("%s, %s", a, b)
	}
}

func TestCutRequestsAreRepeatedInTheirOrder(t *testing.T) {
	s := serve(t, func(s *service) { s.hold = make(chan struct{}) })
	a, b := s.dial(), s.dial()
	a.send("x")
	first := <-s.begun
	b.send("x")
	second := <-s.begun
	a.cut()
	b.cut()
	for _, want := range []string{first, second} {
		c := s.dial()
		c.send("x")
		if got := <-s.begun; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	close(s.hold)
}

func TestAResetIsTold(t *testing.T) {
	told := make(chan string, 1)
	s := serve(t, func(s *service) { s.table.Reset = func(_ Key, action string) { told <- action } })
	c := s.dial()
	c.send("x")
	action := <-s.begun
	if c.answer() != "1" || !<-s.wrote {
		t.Fatal("not the first run, or not written")
	}
	c.cut()
	select {
	case got := <-told:
		if got != action {
			t.Errorf("%s, want %s", got, action)
		}
	case <-time.After(limit):
		t.Error("nobody was told")
	}
}
