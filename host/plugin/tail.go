package plugin

import "unicode/utf8"

// tail keeps the last lines up to a number of bytes. Not for concurrent use.
type tail struct {
	kept []string
	from int // kept[from:] are the lines
	size int // their bytes, each with its end
}

// add keeps line, cut to tailSize, and drops the oldest lines that no longer fit. Its cost does not depend on how many are kept.
func (t *tail) add(line string) {
	line = head(line, tailSize)
	t.kept = append(t.kept, line)
	t.size += len(line) + 1
	for ; t.size > tailSize && t.from < len(t.kept)-1; t.from++ {
		t.size -= len(t.kept[t.from]) + 1
		t.kept[t.from] = "" // let go of its bytes
	}
	if t.from > len(t.kept)/2 {
		t.kept = append(t.kept[:0], t.kept[t.from:]...)
		t.from = 0
	}
}

// lines are all that is kept, oldest first.
func (t *tail) lines() []string { return t.kept[t.from:] }

// last returns the newest lines, oldest first: at most n, at most size bytes, of which the oldest may be cut.
func (t *tail) last(n, size int) []string {
	lines := t.lines()
	from := len(lines)
	for from > 0 && len(lines)-from < n && size > 0 {
		from--
		size -= len(lines[from]) + 1
	}
	out := append([]string(nil), lines[from:]...)
	if size < -1 && len(out) > 0 { // the oldest does not fit whole
		out[0] = head(out[0], len(out[0])+size+1)
	}
	return out
}

// head is the beginning of s, at most n bytes, without a part of a character at its end: what is kept travels as UTF-8.
func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
