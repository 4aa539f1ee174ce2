package box

import (
	"bytes"
	"context"
	"sync"
	"unicode/utf8"
)

// Output is what a command has written to one of its two streams. It grows until it is finished, is kept as a whole, and may be read
// from any position by any number of readers.
type Output struct {
	mu       sync.Mutex
	data     []byte
	finished bool
	changed  chan struct{}
}

func newOutput() *Output { return &Output{changed: make(chan struct{})} }

// write appends; what comes after the end is dropped, for the answers that were given already must stay true.
func (o *Output) write(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.finished || len(p) == 0 {
		return
	}
	o.data = append(o.data, p...)
	o.wake()
}

func (o *Output) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.finished {
		o.finished = true
		o.wake()
	}
}

func (o *Output) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// Next returns what there is from a position on, in whole characters, and blocks while there is nothing. more is false when the output
// has ended at or before the returned bytes. The error is that of ctx.
func (o *Output) Next(ctx context.Context, from int64) (chunk []byte, more bool, err error) {
	for {
		o.mu.Lock()
		chunk, finished, changed := o.from(from), o.finished, o.changed
		o.mu.Unlock()
		if finished {
			return chunk, false, nil
		}
		if chunk = wholeCharacters(chunk); len(chunk) > 0 {
			return chunk, true, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, true, ctx.Err()
		}
	}
}

func (o *Output) from(position int64) []byte {
	if position < 0 || position >= int64(len(o.data)) {
		return nil
	}
	return o.data[position:len(o.data):len(o.data)]
}

// wholeCharacters leaves out a character at the end of which not all bytes are there yet.
func wholeCharacters(p []byte) []byte {
	for back := 1; back <= min(utf8.UTFMax-1, len(p)); back++ {
		if b := p[len(p)-back]; utf8.RuneStart(b) {
			if !utf8.FullRune(p[len(p)-back:]) {
				return p[:len(p)-back]
			}
			break
		}
	}
	return p
}

// Last returns the last n lines, and whether lines were left out.
func (o *Output) Last(n int) (text string, truncated bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	data := o.data
	if n <= 0 {
		return "", len(data) > 0
	}
	end := len(data)
	if end > 0 && data[end-1] == '\n' {
		end--
	}
	for range n {
		end = bytes.LastIndexByte(data[:end], '\n')
		if end < 0 {
			return string(bytes.ToValidUTF8(data, []byte("\uFFFD"))), false
		}
	}
	return string(bytes.ToValidUTF8(data[end+1:], []byte("\uFFFD"))), true
}

// String returns all of it.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.data)
}
