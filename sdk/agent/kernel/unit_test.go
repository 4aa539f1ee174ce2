package kernel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func testCodec() codec { return codec{key: []byte("key"), session: "s"} }

func TestAMessageComesBackAndNoOtherIsTaken(t *testing.T) {
	c := testCodec()
	id, frames, err := c.encode("execute_request", executeRequest{Code: "1"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.decode(append([][]byte{[]byte("route")}, frames...))
	if err != nil || m.kind != "execute_request" || m.parent != "" || !strings.Contains(string(m.content), `"code":"1"`) || id == "" {
		t.Errorf("%+v, %v", m, err)
	}
	for i := 1; i < len(frames); i++ {
		changed := append([][]byte{}, frames...)
		changed[i] = append(bytes.Clone(frames[i]), ' ')
		if _, err := c.decode(changed); !errors.Is(err, errSignature) {
			t.Errorf("frame %d was changed: %v", i, err)
		}
		if _, err := c.decode(frames[:i]); !errors.Is(err, errNoMessage) {
			t.Errorf("only %d frames: %v", i, err)
		}
	}
	other := codec{key: []byte("another")}
	if _, err := other.decode(frames); !errors.Is(err, errSignature) {
		t.Errorf("another key: %v", err)
	}
	if _, err := c.decode(append(make([][]byte, maxIdentities+1), frames...)); !errors.Is(err, errNoMessage) {
		t.Errorf("many routes: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	c := testCodec()
	f.Add([]byte(`{"msg_id":"a","msg_type":"stream"}`), []byte(`{"msg_id":"b"}`), []byte(`{"text":"x"}`), true)
	f.Add([]byte(`{`), []byte(`{}`), []byte(`{"data":{"text/plain":["a"],"image/png":"iVBO\nRw0K"}}`), true)
	f.Add([]byte(`{}`), []byte(`{}`), []byte(`{"traceback":["\u001b[31mx"],"execution_state":"idle"}`), false)
	f.Fuzz(func(t *testing.T, head, parent, content []byte, signed bool) {
		parts := [][]byte{head, parent, []byte("{}"), content}
		sign := []byte("0")
		if signed {
			sign = c.sign(parts)
		}
		m, err := c.decode(append([][]byte{[]byte(delimiter), sign}, parts...))
		if err == nil && !signed {
			t.Fatal("what nobody signed was taken")
		}
		if err != nil {
			return
		}
		r := request{to: &collector{out: io.Discard}, busy: make(chan struct{}), done: make(chan struct{})}
		for _, kind := range []string{m.kind, "stream", "display_data", "error", "status", "status"} {
			_, _ = r.take(true, message{kind: kind, content: m.content}) // Whatever it holds: no panic.
		}
		if text, _ := r.to.result(); !utf8.ValidString(text) {
			t.Errorf("no text: %q", text)
		}
	})
}

func TestColoursGoAndOtherEscapesStay(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                  "plain",
		"\x1b[31mred\x1b[0m":                     "red",
		"\x1b[38;5;196mx\x1b[m":                  "x",
		"\x1b[2Kline\x1b[1A":                     "\x1b[2Kline\x1b[1A",
		"\x1b":                                   "\x1b",
		"\x1b[":                                  "\x1b[",
		"\x1b[3":                                 "\x1b[3",
		"\x1b\x1b[1m!":                           "\x1b!",
		"\x1b]0;title\x07":                       "\x1b]0;title\x07",
		"\x1b[" + strings.Repeat("1", 200) + "x": "\x1b[" + strings.Repeat("1", 200) + "x",
	} {
		for step := 1; step <= len(in); step++ {
			var u uncolour
			var got string
			for rest := in; rest != ""; rest = rest[min(step, len(rest)):] {
				got += u.strip(rest[:min(step, len(rest))])
			}
			if got += u.rest(); got != want {
				t.Errorf("%q in pieces of %d: %q", in, step, got)
			}
		}
	}
}

func TestBoundedKeepsBothEnds(t *testing.T) {
	for _, step := range []int{1000, halfText - 1, halfText, halfText + 1, 5 * halfText} {
		for _, size := range []int{0, 1, halfText, 2*halfText - 1, 2 * halfText, 2*halfText + 1, 7 * halfText} {
			whole := strings.Repeat("0123456789abcde\n", size/16+1)[:size]
			var b bounded
			for rest := whole; rest != ""; rest = rest[min(step, len(rest)):] {
				b.add(rest[:min(step, len(rest))])
			}
			want := whole
			if size > 2*halfText {
				want = whole[:halfText] + truncated + whole[size-halfText:]
			}
			if got := b.String(); got != want {
				t.Errorf("%d bytes in pieces of %d: %d bytes, want %d", size, step, len(got), len(want))
			}
			if cap(b.tail) > 12*halfText {
				t.Errorf("it takes %d bytes", cap(b.tail))
			}
		}
	}
	var b bounded
	b.add("x" + strings.Repeat("€", halfText))
	if !utf8.ValidString(b.String()) {
		t.Error("a character was cut")
	}
}

func TestTextMayBeAnything(t *testing.T) {
	for in, want := range map[string]string{`"a"`: "a", `["a\n","b"]`: "a\nb", `5`: "", `{"a":1}`: "", `null`: "", `[1]`: ""} {
		var got text
		if err := json.Unmarshal([]byte(in), &got); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

// frame is one frame of ZMTP.
func frame(more bool, body []byte) []byte {
	var flags byte
	if more {
		flags = flagMore
	}
	if len(body) < 256 {
		return append([]byte{flags, byte(len(body))}, body...)
	}
	return append(binary.BigEndian.AppendUint64([]byte{flags | flagLong}, uint64(len(body))), body...)
}

type readConn struct {
	net.Conn
	io.Reader
}

func (c readConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func TestBoundedConn(t *testing.T) {
	greeting := make([]byte, greetingSize)
	small := append(frame(true, []byte("head")), frame(false, make([]byte, 300))...)
	large := binary.BigEndian.AppendUint64([]byte{flagLong}, maxMessage+1)
	overflow := binary.BigEndian.AppendUint64([]byte{flagLong | flagMore}, 1<<63)
	for name, c := range map[string]struct {
		stream []byte
		good   bool
	}{
		"small ones":    {bytes.Repeat(small, 200), true},
		"the largest":   {frame(false, make([]byte, maxMessage)), true},
		"too large":     {large, false},
		"in sum":        {append(frame(true, make([]byte, maxMessage)), frame(false, []byte("x"))...), false},
		"overflow":      {append(append([]byte{}, overflow...), overflow...), false},
		"too many":      {bytes.Repeat(frame(true, nil), maxFrames+1), false},
		"just not many": {append(bytes.Repeat(frame(true, nil), maxFrames-1), frame(false, nil)...), true},
	} {
		whole := append(append([]byte{}, greeting...), c.stream...)
		for _, r := range []io.Reader{bytes.NewReader(whole), iotest.HalfReader(bytes.NewReader(whole)), iotest.DataErrReader(bytes.NewReader(whole))} {
			n, err := io.Copy(io.Discard, newBoundedConn(readConn{Reader: r}))
			if c.good && (err != nil || n != int64(len(whole))) || !c.good && err == nil {
				t.Errorf("%s: %d of %d bytes, %v", name, n, len(whole), err)
			}
		}
	}
}

func FuzzBoundedConn(f *testing.F) {
	f.Add(append(make([]byte, greetingSize), frame(true, []byte("x"))...), 3)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		c := newBoundedConn(readConn{Reader: bytes.NewReader(stream)})
		buf := make([]byte, 1+uint(step)%100)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if c.size > maxMessage || c.frames > maxFrames || len(c.head) > 9 {
				t.Fatalf("beyond the bounds: %+v", c)
			}
		}
	})
}
