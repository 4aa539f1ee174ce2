package spool

import (
	"errors"
	"os"
	"sync"
	"time"
)

// waitFlush is how long output may be in memory alone. One-shot: it starts with the first byte that is in no file.
const waitFlush = 20 * time.Millisecond

// Channel is one stream of bytes: one writer, any number of readers.
type Channel struct {
	store *Store
	key   Key
	wake  *Signal

	mu   sync.Mutex
	ring ring
	// flushed is the offset up to which bytes are in files (or have been lost on the way, which lost counts).
	flushed uint64
	lost    uint64
	file    *os.File
	// segment is where file begins.
	segment  uint64
	timer    *time.Timer
	armed    bool
	finished bool
}

// Channel returns a new channel to write to. wake is woken when there is more to read, and at the end.
func (s *Store) Channel(k Key, wake *Signal) *Channel {
	return &Channel{store: s, key: k, wake: wake, ring: ring{max: s.cfg.Memory}}
}

// Stored returns a finished channel: length bytes, of which data are those from offset from on, and files may have others.
func (s *Store) Stored(k Key, length, from uint64, data []byte) *Channel {
	c := &Channel{store: s, key: k, wake: &Signal{}, flushed: length, finished: true}
	c.ring = ring{from: length, end: length}
	if uint64(len(data)) == length-from && len(data) > 0 {
		// A ring that begins where its offsets say: the bytes lie at o % len.
		c.ring = ring{from: from, end: from, max: len(data)}
		c.ring.write(data)
	}
	return c
}

// Length returns the length of a channel of which only files are known.
func (s *Store) Length(k Key) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	segs := s.disk[k]
	if len(segs) == 0 {
		return 0
	}
	last := segs[len(segs)-1]
	return last.from + last.length
}

// Rename gives the channel to another action, files and all. Not to be called while somebody reads it, or after Finish.
func (c *Channel) Rename(k Key, wake *Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store.rename(c.key, k)
	c.key, c.wake = k, wake
}

// Write appends p, which may be used again when it returns. It never fails and waits for no reader; output that a full disk
// refuses is lost once it leaves the ring, and readers get a gap. Not to be called after Finish.
func (c *Channel) Write(p []byte) (int, error) {
	n := len(p)
	c.mu.Lock()
	for len(p) > 0 {
		part := p[:min(len(p), Small)]
		c.ring.write(part)
		p = p[len(part):]
		if c.ring.end-c.flushed > Small {
			c.flush()
		}
	}
	c.arm()
	c.mu.Unlock()
	c.wake.Wake()
	return n, nil
}

func (c *Channel) arm() {
	if c.armed || c.flushed == c.ring.end {
		return
	}
	c.armed = true
	if c.timer == nil {
		c.timer = time.AfterFunc(waitFlush, c.expire)
		return
	}
	c.timer.Reset(waitFlush)
}

func (c *Channel) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	if !c.finished {
		c.flush()
	}
}

// flush writes what is in no file to the present segment.
func (c *Channel) flush() {
	from, to := c.flushed, c.ring.end
	c.flushed = to
	err := c.openSegment(from)
	c.ring.each(from, to, func(part []byte) {
		if err == nil {
			_, err = c.file.Write(part)
		}
	})
	if err != nil {
		c.lose(err, to-from)
		return
	}
	c.store.grew(c.key, c.segment, int(to-from))
}

// openSegment begins a new file where the last one is full or was lost.
func (c *Channel) openSegment(from uint64) error {
	size := uint64(max(c.store.cfg.Disk/segmentsPerChannel, Small))
	if c.file != nil && from-c.segment < size {
		return nil
	}
	if c.file != nil {
		_ = c.file.Close() // Written with one system call each; nothing is buffered.
		c.file = nil
	}
	f, err := os.OpenFile(c.store.path(c.key, from), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c.file, c.segment = f, from
	return nil
}

// lose gives up the present file: what follows goes to another one, so that no file has a hole. A piece that was written in
// part is cut off again.
func (c *Channel) lose(err error, n uint64) {
	if c.lost == 0 {
		c.store.cfg.Logger.Error("cannot spill output", "action", c.key.ID, "error", err)
	}
	c.lost += n
	if c.file == nil {
		return
	}
	length := int64(0)
	if seg, ok := c.store.lookup(c.key, c.segment); ok && seg.from == c.segment {
		length = int64(seg.length)
	}
	_ = errors.Join(c.file.Truncate(length), c.file.Close()) // The file is bounded by the store's account, whatever it holds.
	c.file = nil
}

// Finish ends the channel. If it is small, all its bytes are returned, it needs no file any more, and readers that have it go on
// from memory; else the rest is put into files and the memory given back.
func (c *Channel) Finish() (small []byte, isSmall bool) {
	c.mu.Lock()
	c.finished = true
	if c.timer != nil {
		c.timer.Stop()
	}
	isSmall = c.ring.end <= Small && c.ring.from == 0
	if isSmall {
		small = make([]byte, c.ring.end)
		c.ring.readAt(small, 0)
		c.ring.buf = small
		if len(small) == 0 {
			c.ring = ring{}
		}
	} else if c.flushed < c.ring.end {
		c.flush()
	}
	spilled := c.file != nil
	if spilled {
		_ = c.file.Close() // As in openSegment.
		c.file = nil
	}
	if !isSmall && c.lost == 0 {
		c.ring = ring{from: c.ring.end, end: c.ring.end}
	}
	c.mu.Unlock()
	switch {
	case isSmall && spilled:
		c.store.drop(c.key)
	case !isSmall:
		c.store.ended(c.key)
	}
	c.wake.Wake()
	return small, isSmall
}

// End returns the number of bytes written so far and whether that is final.
func (c *Channel) End() (length uint64, final bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.end, c.finished
}

// RetainedFrom returns the first offset that can still be read.
func (c *Channel) RetainedFrom() uint64 {
	c.mu.Lock()
	memory := c.ring.from
	c.mu.Unlock()
	if seg, ok := c.store.lookup(c.key, 0); ok {
		return min(seg.from, memory)
	}
	return memory
}
