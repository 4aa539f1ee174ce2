package plugin

// tail keeps the last lines up to a number of bytes. Not for concurrent use.
type tail struct {
	lines []string
	size  int
}

// add keeps a copy of line, and drops the oldest lines that no longer fit.
func (t *tail) add(line string) {
	if len(line) > tailSize {
		line = line[:tailSize]
	}
	t.lines = append(t.lines, line)
	t.size += len(line) + 1
	drop := 0
	for ; t.size > tailSize && drop < len(t.lines)-1; drop++ {
		t.size -= len(t.lines[drop]) + 1
	}
	if drop > 0 {
		t.lines = append(t.lines[:0:0], t.lines[drop:]...)
	}
}

// last returns the newest lines, oldest first: at most n, at most size bytes, of which the oldest may be cut.
func (t *tail) last(n, size int) []string {
	var out []string
	for i := len(t.lines) - 1; i >= 0 && len(out) < n && size > 0; i-- {
		line := t.lines[i]
		line = line[:min(len(line), size)]
		size -= len(line) + 1
		out = append([]string{line}, out...)
	}
	return out
}
