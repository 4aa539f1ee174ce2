package ports

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a server in the sandbox and the proxy before it; it returns the proxy's URL up to the port.
func pair(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	inside := httptest.NewServer(h)
	t.Cleanup(inside.Close)
	u, err := url.Parse(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	return front(t) + "/ports/" + u.Port()
}

func front(t *testing.T) string {
	t.Helper()
	p := New(Config{})
	outside := httptest.NewServer(p)
	t.Cleanup(func() {
		outside.Close()
		p.Close()
	})
	return outside.URL
}

func get(t *testing.T, target string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestPathsAndQueriesStayAsTheyWere(t *testing.T) {
	base := pair(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	for in, want := range map[string]string{
		"":                  "/",
		"/":                 "/",
		"/a/b?c=d&e=%20":    "/a/b?c=d&e=%20",
		"/a%2Fb/%7Ec":       "/a%2Fb/%7Ec",
		"//double":          "//double",
		"/ports/1/again":    "/ports/1/again",
		"/semi;colon?x=1;2": "/semi;colon?x=1;2",
	} {
		if _, got := get(t, base+in, http.Header{}); got != want {
			t.Errorf("%q arrived as %q, want %q", in, got, want)
		}
	}
}

func TestSecretsStayOutside(t *testing.T) {
	seen := make(chan http.Header, 1)
	base := pair(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() })
	_, _ = get(t, base+"/", http.Header{
		"Authorization": {"Bearer secret"}, "X-Api-Key": {"secret"}, "X-Session-Api-Key": {"secret"}, "Proxy-Authorization": {"secret"},
		"Cookie": {"openhands-rt-session=secret; theirs=1", "openhands-rt=secret; more=\"2\""}, "X-Own": {"kept"}, "X-Forwarded-For": {"1.2.3.4"},
	})
	h := <-seen
	if strings.Contains(fmt.Sprint(h), "secret") {
		t.Errorf("%v", h)
	}
	if h.Get("Cookie") != `theirs=1; more="2"` || h.Get("X-Own") != "kept" || h.Get("X-Forwarded-For") != "1.2.3.4" {
		t.Errorf("%v", h)
	}
}

func TestNothingListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
	_ = ln.Close()
	resp, body := get(t, front(t)+"/ports/"+port+"/x", http.Header{})
	e := rterr.From(rthttp.Read(resp.StatusCode, []byte(body)))
	if resp.StatusCode != http.StatusBadGateway || e.Reason != rterr.Network || e.Evidence["port"] != port {
		t.Errorf("%d %+v", resp.StatusCode, e)
	}
}

func TestNoPort(t *testing.T) {
	base := front(t)
	for _, path := range []string{"/ports/", "/ports/x/", "/ports/0/", "/ports/65536/", "/ports/-1/", "/ports//a"} {
		resp, body := get(t, base+path, http.Header{})
		e := rterr.From(rthttp.Read(resp.StatusCode, []byte(body)))
		if e.Reason != rterr.InvalidArgument || e.Field != "port" {
			t.Errorf("%s: %d %+v", path, resp.StatusCode, e)
		}
	}
}

func TestAnswersAreStreamed(t *testing.T) {
	more := make(chan struct{})
	base := pair(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "one")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
		fmt.Fprintln(w, "two")
	})
	resp, err := http.Get(base + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, _ := lines.ReadString('\n'); line != "one\n" { // comes before the rest is made
		t.Errorf("%q", line)
	}
	close(more)
	if line, _ := lines.ReadString('\n'); line != "two\n" {
		t.Errorf("%q", line)
	}
}

// TestUpgrade speaks as a WebSocket does: after 101 the connection carries bytes both ways.
func TestUpgrade(t *testing.T) {
	base := pair(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") != "k" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = rw.WriteString("echo " + line)
			_ = rw.Flush()
		}
	})
	u, _ := url.Parse(base)
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n", u.Path)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	for _, text := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if got, _ := r.ReadString('\n'); got != "echo "+text {
			t.Errorf("%q", got)
		}
	}
}

func TestListening(t *testing.T) {
	four, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	port := uint32(four.Addr().(*net.TCPAddr).Port)
	client, err := net.Dial("tcp", four.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	outgoing := uint32(client.LocalAddr().(*net.TCPAddr).Port)
	found, err := Listening("/proc", []int{os.Getpid(), 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(found, port) || slices.Contains(found, outgoing) {
		t.Errorf("%v, listening %d, connected %d", found, port, outgoing)
	}
	if found, err = Listening("/proc", nil); err != nil || len(found) != 0 {
		t.Errorf("%v %v", found, err)
	}
	if six, err := net.Listen("tcp6", "[::1]:0"); err == nil { // where there is IPv6
		defer six.Close()
		found, err := Listening("/proc", []int{os.Getpid()})
		if err != nil || !slices.Contains(found, uint32(six.Addr().(*net.TCPAddr).Port)) {
			t.Errorf("%v %v", found, err)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add("  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n")
	f.Add(": x 0A")
	f.Fuzz(func(t *testing.T, table string) {
		inodes := map[string]uint32{}
		_ = parseTable(strings.NewReader(table), inodes)
		for inode, port := range inodes {
			if port == 0 || port > 65535 || inode == "" {
				t.Errorf("%q: %d", inode, port)
			}
		}
	})
}
