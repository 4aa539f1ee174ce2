package spool

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Reader reads a channel from an offset on. Not for concurrent use; Close it.
type Reader struct {
	c    *Channel
	file *os.File
	seg  segment
}

// Reader returns a reader of the channel.
func (c *Channel) Reader() *Reader { return &Reader{c: c} }

// Close gives back the reader's file.
func (r *Reader) Close() {
	if r.file != nil {
		_ = r.file.Close() // Only read from.
		r.file = nil
	}
}

// ReadAt fills p from offset off. It returns what there is without waiting: n bytes; or a gap, the number of bytes from off on
// that are no longer kept; or neither at the end of what has been written.
func (r *Reader) ReadAt(p []byte, off uint64) (n int, gap uint64, err error) {
	for {
		if n, ok := r.memory(p, off); ok {
			return n, 0, nil
		}
		n, gap, err := r.disk(p, off)
		if !errors.Is(err, fs.ErrNotExist) {
			return n, gap, err
		}
		// The segment was dropped between lookup and open: look again.
	}
}

// memory reads from the ring; ok is false if off lies before it.
func (r *Reader) memory(p []byte, off uint64) (n int, ok bool) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if off >= r.c.ring.end {
		return 0, true
	}
	if off < r.c.ring.from {
		return 0, false
	}
	return r.c.ring.readAt(p, off), true
}

// disk reads from the segment that has off, or tells how far away the next bytes are.
func (r *Reader) disk(p []byte, off uint64) (n int, gap uint64, err error) {
	seg, ok := r.c.store.lookup(r.c.key, off)
	r.c.mu.Lock()
	memory := r.c.ring.from
	r.c.mu.Unlock()
	if !ok || seg.from >= memory {
		if memory <= off { // The ring does not move back; it has it now.
			return 0, 0, fs.ErrNotExist
		}
		return 0, memory - off, nil
	}
	if seg.from > off {
		return 0, seg.from - off, nil
	}
	if err := r.open(seg); err != nil {
		if errors.Is(err, fs.ErrNotExist) && r.c.store.has(r.c.key, seg.from) {
			return 0, seg.from + seg.length - off, nil // Somebody else has removed it.
		}
		return 0, 0, err
	}
	p = p[:min(uint64(len(p)), seg.from+seg.length-off)]
	n, err = r.file.ReadAt(p, int64(off-seg.from))
	if n > 0 || errors.Is(err, io.EOF) {
		err = nil
	}
	if n == 0 && err == nil { // Shorter than its account: a file that somebody else has cut.
		return 0, uint64(len(p)), nil
	}
	return n, 0, err
}

func (r *Reader) open(seg segment) error {
	if r.file != nil && r.seg.from == seg.from {
		return nil
	}
	r.Close()
	f, err := os.Open(r.c.store.path(r.c.key, seg.from))
	if err != nil {
		return err
	}
	r.file, r.seg = f, seg
	return nil
}
