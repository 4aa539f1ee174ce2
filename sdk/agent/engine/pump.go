package engine

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
)

// pumpBuffer is what one read takes from a pipe at most.
const pumpBuffer = 64 << 10

// pump carries a pipe or a terminal into a channel.
type pump struct {
	e    *Engine
	id   string
	from *os.File
	to   *spool.Channel
	// kept: a detached process has the other end; from is not ours to close any more.
	kept bool
}

func (e *Engine) newPump(l *live, name agentv1.Channel, from *os.File) *pump {
	c := e.spool.Channel(spool.Key{ID: l.id, Channel: int32(name)}, &l.wake)
	l.open(name, c)
	return &pump{e: e, id: l.id, from: from, to: c}
}

// run carries until the end, or until the limit. Then a detached process has the other end still: it must not get a broken
// pipe, so what it writes from now on is read and dropped.
func (p *pump) run() {
	buf := make([]byte, pumpBuffer)
	for {
		n, err := p.from.Read(buf)
		if n > 0 {
			_, _ = p.to.Write(buf[:n]) // It never fails.
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.kept = true
			return
		}
		if err != nil {
			return
		}
	}
}

// limit lets run end after d at the latest.
func (p *pump) limit(d time.Duration) {
	if err := p.from.SetReadDeadline(time.Now().Add(d)); err != nil {
		p.e.log.Warn("cannot limit the wait for the end of a pipe", "action", p.id, "error", err)
	}
}

// release gives the file away, or back, once run has ended.
func (p *pump) release() {
	if p.kept {
		p.e.left.add(p.e, p.id, p.from)
		return
	}
	_ = p.from.Close() // Only read from (a terminal: nothing more will be written).
}

// leftovers are pipes of done actions that detached processes still hold.
type leftovers struct {
	mu     sync.Mutex
	files  map[*os.File]struct{}
	closed bool
	// dropped bytes, in all.
	dropped int64
	work    sync.WaitGroup
}

func (o *leftovers) add(e *Engine, id string, f *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || f.SetReadDeadline(time.Time{}) != nil {
		_ = f.Close() // Only read from.
		return
	}
	if o.files == nil {
		o.files = map[*os.File]struct{}{}
	}
	o.files[f] = struct{}{}
	o.work.Go(func() {
		n, _ := io.Copy(io.Discard, f) // Ends at the end of the pipe, or at close.
		_ = f.Close()
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.files, f)
		o.dropped += n
		if n > 0 {
			e.log.Info("output of a detached process was dropped", "action", id, "bytes", n)
		}
	})
}

func (o *leftovers) close() {
	o.mu.Lock()
	o.closed = true
	for f := range o.files {
		_ = f.Close() // Wakes its reader.
	}
	o.mu.Unlock()
	o.work.Wait()
}
