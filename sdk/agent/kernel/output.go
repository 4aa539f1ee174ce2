package kernel

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"unicode/utf8"
)

// What is kept of a cell's output; the whole text goes to the cell's writer as it comes.
const (
	// halfText is how much text is kept from the beginning, and how much from the end; in bytes.
	halfText = 256 << 10
	// maxImageBytes and maxImages bound the images of a cell, as data URLs.
	maxImageBytes = 4 << 20
	maxImages     = 64
)

// The words of OpenHands' observation, which agents have learnt to read; they must not be changed.
const (
	noOutput  = "[Code executed successfully with no output]"
	truncated = "\n[... Observation truncated due to length ...]\n"
)

// collector gathers what a cell displays.
type collector struct {
	out    io.Writer
	colour uncolour
	text   bounded
	images []string
	bytes  int
	// failed: an exception was among it.
	failed bool
}

// take adds a message of the iopub channel. Kinds of message that have no output are left out.
func (c *collector) take(m message) error {
	switch m.kind {
	case "stream":
		var s streamContent
		if err := json.Unmarshal(m.content, &s); err != nil {
			return err
		}
		c.write(s.Text)
	case "execute_result", "display_data":
		var d displayContent
		if err := json.Unmarshal(m.content, &d); err != nil {
			return err
		}
		c.write(string(d.Data.Plain))
		c.image(string(d.Data.PNG))
	case "error":
		var e errorContent
		if err := json.Unmarshal(m.content, &e); err != nil {
			return err
		}
		c.failed = true
		c.write(strings.Join(e.Traceback, "\n"))
	}
	return nil
}

func (c *collector) write(text string) { c.emit(c.colour.strip(text)) }

func (c *collector) emit(text string) {
	if text == "" {
		return
	}
	_, _ = io.WriteString(c.out, text) // The caller's writer is a spool, which counts what it cannot keep.
	c.text.add(text)
}

func (c *collector) image(png string) {
	png = strings.Join(strings.Fields(png), "") // Some encoders break lines.
	if png == "" {
		return
	}
	if c.bytes+len(png) > maxImageBytes || len(c.images) == maxImages {
		c.write(fmt.Sprintf("\n[An image of %d bytes was left out: a cell may show %d images of %d bytes together.]\n",
			len(png)/4*3, maxImages, maxImageBytes/4*3))
		return
	}
	c.bytes += len(png)
	c.images = append(c.images, "data:image/png;base64,"+png)
}

// result is the text so far, and the images; nil if there is none.
func (c *collector) result() (string, []string) {
	c.emit(c.colour.rest())
	if text := c.text.String(); text != "" {
		return text, c.images
	}
	return noOutput, c.images
}

// uncolour takes colour escapes (ESC [ digits and semicolons m) out of a text that comes in pieces.
type uncolour struct{ held string }

// maxEscape is the longest escape that is held back; a longer one is text.
const maxEscape = 64

func (u *uncolour) strip(piece string) string {
	text := u.held + piece
	u.held = ""
	if !strings.Contains(text, "\x1b") {
		return text
	}
	var b strings.Builder
	for text != "" {
		before, escape, found := strings.Cut(text, "\x1b")
		b.WriteString(before)
		if !found {
			break
		}
		digits := strings.TrimLeft(strings.TrimPrefix(escape, "["), "0123456789;")
		switch colour := strings.HasPrefix(escape, "["); {
		case colour && strings.HasPrefix(digits, "m"):
			text = digits[1:]
		case digits == "" && len(escape) < maxEscape && (colour || escape == ""):
			u.held = "\x1b" + escape
			return b.String()
		default:
			b.WriteByte('\x1b')
			text = escape
		}
	}
	return b.String()
}

// rest is what looked like the beginning of an escape and was none.
func (u *uncolour) rest() string {
	held := u.held
	u.held = ""
	return held
}

// bounded keeps the beginning and the end of a text. Its memory grows with the text, up to 3 times halfText.
type bounded struct {
	head, tail []byte
	lost       bool
}

func (t *bounded) add(s string) {
	if len(t.tail) == 0 && len(t.head)+len(s) <= halfText {
		t.head = append(t.head, s...)
		return
	}
	if len(t.tail) == 0 {
		at := runeBefore(s, halfText-len(t.head))
		t.head = append(t.head, s[:at]...)
		s = s[at:]
	}
	if len(s) > halfText {
		s, t.lost, t.tail = s[len(s)-halfText:], true, t.tail[:0]
	}
	t.tail = append(t.tail, s...)
	if len(t.tail) > 2*halfText {
		t.tail, t.lost = append(t.tail[:0], t.tail[len(t.tail)-halfText:]...), true
	}
}

// runeBefore is the last place up to n where a character begins.
func runeBefore(s string, n int) int {
	for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

func (t *bounded) String() string {
	tail := t.tail
	if len(tail) > halfText {
		tail, t.lost = tail[len(tail)-halfText:], true
	}
	if !t.lost {
		return string(t.head) + string(tail)
	}
	for len(tail) > 0 && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return string(t.head) + truncated + string(tail)
}
