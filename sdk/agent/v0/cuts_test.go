package v0_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

// wire is one connection of a client that decides how it ends.
type wire struct {
	t    *testing.T
	conn *net.TCPConn
	in   *responses
}

func (f *face) dial() *wire {
	f.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	must(f.t, err)
	w := &wire{t: f.t, conn: conn.(*net.TCPConn), in: newResponses(conn)}
	f.t.Cleanup(func() { _ = conn.Close() })
	return w
}

// ask sends a request for an action and does not wait for its answer.
func (w *wire) ask(body string) {
	w.t.Helper()
	_, err := fmt.Fprintf(w.conn, "POST /execute_action HTTP/1.1\r\nHost: x\r\nX-Session-API-Key: %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", sessionKey, len(body), body)
	must(w.t, err)
}

// content reads an answer to its end.
func (w *wire) content() string {
	w.t.Helper()
	resp, raw := w.in.next(w.t)
	content, ok := (answer{status: resp.StatusCode, body: raw}).object(w.t)["content"].(string)
	if !ok || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%d %s", resp.StatusCode, raw)
	}
	return content
}

// reset cuts the connection as a middlebox does.
func (w *wire) reset() {
	w.t.Helper()
	must(w.t, w.conn.SetLinger(0))
	must(w.t, w.conn.Close())
}

// effects is the number of times that a command has run.
func (f *face) effects(name string) int {
	f.t.Helper()
	raw, err := os.ReadFile(f.file(name))
	must(f.t, err)
	return strings.Count(string(raw), "\n")
}

func TestCutRequestsRunOnce(t *testing.T) {
	f := newFace(t)
	began, gate := f.fifo("began"), f.fifo("gate")
	for i := range 10 {
		name := fmt.Sprintf("during-%d", i)
		body := command(fmt.Sprintf("echo x >> %s; echo > %s; read x < %s; echo done %d", name, began, gate, i))
		first := f.dial()
		first.ask(body)
		_, err := os.ReadFile(began)
		must(t, err)
		first.reset()
		second := f.dial()
		second.ask(body)
		release(t, gate)
		if got := second.content(); got != fmt.Sprintf("done %d", i) || f.effects(name) != 1 {
			t.Errorf("%s: %q, ran %d times", name, got, f.effects(name))
		}
	}
	for i := range 20 {
		name := fmt.Sprintf("after-%d", i)
		body := command(fmt.Sprintf("echo x >> %s; echo done %d", name, i))
		first := f.dial()
		first.ask(body)
		if i%2 == 0 { // with the whole answer, or in the middle of it
			first.content()
		} else {
			_, err := io.ReadFull(first.in.r, make([]byte, 20))
			must(t, err)
		}
		first.reset()
		second := f.dial()
		second.ask(body)
		if got := second.content(); got != fmt.Sprintf("done %d", i) || f.effects(name) != 1 {
			t.Errorf("%s: %q, ran %d times", name, got, f.effects(name))
		}
	}
}

func TestAnsweredRequestsRunAgain(t *testing.T) {
	f := newFace(t)
	body := command("echo x >> count; echo done")
	same := f.dial()
	for i := range 20 {
		w := same
		if i%2 == 0 {
			w = f.dial()
		}
		w.ask(body)
		if got := w.content(); got != "done" {
			t.Errorf("%q", got)
		}
		if w != same {
			must(t, w.conn.Close())
		}
	}
	if n := f.effects("count"); n != 20 {
		t.Errorf("ran %d times", n)
	}
}

// TestCutWhileWaiting: the first of two equal requests is cut before its turn; one of them runs.
func TestCutWhileWaiting(t *testing.T) {
	f := newFace(t)
	began, gate := f.fifo("began"), f.fifo("gate")
	holder := f.dial()
	holder.ask(command("echo > " + began + "; read x < " + gate))
	_, err := os.ReadFile(began)
	must(t, err)
	body := command("echo x >> count; echo done")
	for range 5 {
		w := f.dial()
		w.ask(body)
		w.reset()
	}
	last := f.dial()
	last.ask(body)
	release(t, gate)
	holder.content()
	if got := last.content(); got != "done" {
		t.Errorf("%q", got)
	}
	if n := f.effects("count"); n != 1 {
		t.Errorf("ran %d times", n)
	}
}
