package engine

import (
	"context"
	"sync"

	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxInput bounds what is buffered of an action's input.
const maxInput = 1 << 20

// sink takes an action's input. write blocks until it is taken; end ends it; abort makes a blocked write return.
type sink struct {
	write func([]byte) (int, error)
	end   func()
	abort func()
}

// input is the way of bytes into an action: pieces with offsets on one side, a blocking writer on the other. Before start,
// pieces wait in the buffer.
type input struct {
	mu   sync.Mutex
	wake spool.Signal
	buf  []byte
	// next is the offset that is expected next.
	next uint64
	// ending: no more will come. stopped: nobody reads any more.
	ending, stopped bool
	to              *sink
	// passing: a goroutine writes; done is closed when it has ended.
	passing bool
	done    chan struct{}
}

func newInput() *input { return &input{} }

// start begins to pass the input on. stop ends it.
func (in *input) start(to sink) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stopped || in.to != nil {
		return
	}
	in.to = &to
	in.ensure()
}

// ensure lets a goroutine write if there is something to write. Called with mu held.
func (in *input) ensure() {
	if in.to == nil || in.stopped || in.passing || (len(in.buf) == 0 && !in.ending) {
		return
	}
	in.passing, in.done = true, make(chan struct{})
	go in.pass(in.done)
}

// pass writes until the buffer is empty.
func (in *input) pass(done chan struct{}) {
	defer close(done)
	for {
		in.mu.Lock()
		piece := in.buf[:min(len(in.buf), 64<<10)]
		if in.stopped || len(piece) == 0 {
			ended := in.ending && !in.stopped
			in.stopped = in.stopped || ended
			in.passing = false
			in.mu.Unlock()
			if ended {
				in.to.end()
				in.wake.Wake()
			}
			return
		}
		in.mu.Unlock()
		n, err := in.to.write(piece)
		in.mu.Lock()
		if err != nil {
			in.stopped, in.buf = true, nil
		}
		if !in.stopped { // stop has emptied it meanwhile.
			in.buf = in.buf[n:]
		}
		in.mu.Unlock()
		in.wake.Wake()
	}
}

// take accepts a piece: what was taken before is skipped, and it waits for room for the rest.
func (in *input) take(ctx context.Context, offset uint64, data []byte, end bool) (next uint64, err error) {
	for {
		changed := in.wake.Wait()
		next, all, err := in.offer(offset, data, end)
		if all || err != nil {
			return next, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return next, rterr.Wrap(rterr.Cancelled, "", ctx.Err())
		}
	}
}

// offer accepts what there is room for; all is false if something is left.
func (in *input) offer(offset uint64, data []byte, end bool) (next uint64, all bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if offset > in.next {
		return in.next, false, rterr.Invalid("", "offset", "is %d, the next one is %d", offset, in.next)
	}
	rest := data[min(in.next-offset, uint64(len(data))):]
	if len(rest) == 0 && (!end || in.ending) {
		return in.next, true, nil
	}
	if in.stopped || in.ending {
		return in.next, false, rterr.New(rterr.IllegalState, "", "the action's input has ended").WithRan(rterr.RanYes)
	}
	n := min(len(rest), maxInput-len(in.buf))
	in.buf = append(in.buf, rest[:n]...)
	in.next += uint64(n)
	all = n == len(rest)
	in.ending = all && end
	in.ensure()
	return in.next, all, nil
}

// inject adds bytes that count in no offset.
func (in *input) inject(p []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.buf = append(in.buf, p...)
	in.ensure()
}

// stop ends the passing, and returns when nothing is written any more.
func (in *input) stop() {
	in.mu.Lock()
	in.stopped, in.buf = true, nil
	to, done := in.to, in.done
	in.mu.Unlock()
	in.wake.Wake()
	if to == nil {
		return
	}
	to.abort()
	if done != nil {
		<-done
	}
}
