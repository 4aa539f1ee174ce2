package plugin

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"
)

// Output is what is known of a plugin's last words.
type Output struct {
	// Lines are its last lines, oldest first, secrets masked.
	Lines []string
	// Panic is the text of the panic that ended it, empty if none was seen.
	Panic string
	// DroppedLines and DroppedBytes were not logged: too much at once, or too long a line.
	DroppedLines, DroppedBytes uint64
}

// sink takes all that one launch of a plugin writes. Safe for concurrent use.
type sink struct {
	logger hclog.Logger
	bucket *rate.Limiter

	mu        sync.Mutex
	secrets   map[string]string // by value, with what is shown instead
	mask      *strings.Replacer // nil: nothing to hide
	tail      tail
	panicking bool
	panicText strings.Builder
	lines     uint64 // dropped
	bytes     uint64
	untold    uint64 // dropped lines that the log does not know of yet
}

func newSink(logger hclog.Logger) *sink {
	return &sink{logger: logger, bucket: rate.NewLimiter(logRate, logBurst)}
}

// hide masks the given values, and all earlier ones, in everything that is written from now on. A very short value is no secret,
// and would mask too much.
func (s *sink) hide(values map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, v := range values {
		if len(v) < minSecret {
			continue
		}
		if s.secrets == nil {
			s.secrets = map[string]string{}
		}
		s.secrets[v] = "(" + name + ")"
	}
	var pairs []string
	for _, v := range slices.Sorted(maps.Keys(s.secrets)) {
		pairs = append(pairs, v, s.secrets[v])
	}
	if len(pairs) > 0 {
		s.mask = strings.NewReplacer(pairs...)
	}
}

// minSecret is the length from which a credential is masked.
const minSecret = 6

// line takes one line; cut is the number of its bytes that were thrown away, stream names where it came from.
func (s *sink) line(stream string, line []byte, cut int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += uint64(cut)
	if s.mask != nil {
		line = []byte(s.mask.Replace(string(line)))
	}
	e := parseLine(line)
	s.tail.add(e.String())
	s.notePanic(&e)
	if !s.bucket.AllowN(time.Now(), len(line)+lineCost) {
		s.lines++
		s.untold++
		s.bytes += uint64(len(line))
		return
	}
	if s.untold > 0 {
		s.logger.Warn("the plugin writes too much, lines were dropped", "lines", s.untold)
		s.untold = 0
	}
	if cut > 0 {
		e.fields = append(e.fields, "bytes_cut", cut)
	}
	if !e.structured {
		e.fields = append(e.fields, "stream", stream)
	}
	s.logger.Log(e.level, e.text, e.fields...)
}

func (s *sink) notePanic(e *entry) {
	if e.panics && !s.panicking {
		s.panicking = true
		s.panicText.Reset()
	}
	if !s.panicking || e.structured {
		return
	}
	e.level = hclog.Error
	if room := panicSize - s.panicText.Len(); room > 0 {
		s.panicText.WriteString(head(e.text, room))
		s.panicText.WriteByte('\n')
	}
}

func (s *sink) output() Output {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Output{
		Lines: append([]string(nil), s.tail.lines()...), Panic: s.panicText.String(), DroppedLines: s.lines, DroppedBytes: s.bytes,
	}
}

func (s *sink) evidence() (lines, panicText string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	panicText = s.panicText.String()
	return strings.Join(s.tail.last(evidenceLines, evidenceSize), "\n"), head(panicText, evidenceSize)
}

// readLines calls take for each line of r, without its end, until r ends. A line longer than maxLine is cut, and cut says by how
// much. The slice is valid during the call. A reader that was closed, or whose deadline has passed, has ended like any other.
func readLines(r io.Reader, take func(line []byte, cut int)) error {
	in := bufio.NewReaderSize(r, 16<<10)
	var line []byte
	cut, begun := 0, false
	for {
		piece, err := in.ReadSlice('\n')
		begun = begun || len(piece) > 0
		ended := len(piece) > 0 && piece[len(piece)-1] == '\n'
		if ended {
			piece = piece[:len(piece)-1]
		}
		room := min(len(piece), maxLine-len(line))
		line = append(line, piece[:room]...)
		cut += len(piece) - room
		if ended || (err != nil && !errors.Is(err, bufio.ErrBufferFull) && begun) {
			take(line, cut)
			line, cut, begun = line[:0], 0, false
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// streamWriter is what go-plugin copies the output of plugins to that redirect their own streams to it.
type streamWriter struct {
	sink *sink
	name string
	part []byte
}

// Write takes whole lines; a line that never ends is cut at maxLine.
func (w *streamWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		piece, rest, whole := cutLine(p)
		room := min(len(piece), maxLine-len(w.part))
		w.part = append(w.part, piece[:room]...)
		if whole || len(w.part) == maxLine {
			w.sink.line(w.name, w.part, len(piece)-room)
			w.part = w.part[:0]
		}
		p = rest
	}
	return n, nil
}

func cutLine(p []byte) (piece, rest []byte, whole bool) {
	for i, b := range p {
		if b == '\n' {
			return p[:i], p[i+1:], true
		}
	}
	return p, nil, false
}
