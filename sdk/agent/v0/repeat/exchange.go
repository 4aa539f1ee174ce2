package repeat

import "time"

// signal is what a connection says.
type signal uint8

const (
	// alive: nothing.
	alive signal = iota
	// closed: the client has closed its side in order.
	closed
	// reset: the connection was reset, or has failed.
	reset
	// more: another request has come.
	more
)

// noticeLocked takes in what the connection said; it reports whether an answer that counted as written is missed after all.
func (x *Exchange) noticeLocked(s signal, now time.Time) (missed bool) {
	t := x.table
	switch {
	case s == alive || x.state == settled || x.state == cut:
	case s == more && x.state == running: // sent ahead: says nothing
	case x.state == running, x.state == answering && s == reset:
		t.cutLocked(x, now, false)
	case x.state == answering:
		x.heard = true // before or after the last byte? Written asks
	case s == closed || s == more:
		t.settleLocked(x)
	case s == reset:
		t.cutLocked(x, now, true)
		return true
	}
	return false
}

func (x *Exchange) notice(s signal) {
	t := x.table
	t.mu.Lock()
	missed := x.noticeLocked(s, time.Now())
	t.mu.Unlock()
	if missed && t.Reset != nil {
		t.Reset(x.key, x.Action)
	}
}

// Answering says that the answer is written from now on. A client that has gone before is noticed here.
func (x *Exchange) Answering() {
	x.notice(x.conn.probe())
	t := x.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.state == running {
		t.moveLocked(x, answering)
	}
}

// Written says how the writing of the answer has ended, after it was flushed; it reports whether the client may have it.
func (x *Exchange) Written(err error) bool {
	s := x.conn.probe()
	t := x.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.state != answering {
		return false
	}
	now := time.Now()
	switch {
	case err != nil || s == reset:
		t.cutLocked(x, now, false)
		return false
	case x.heard || s == closed:
		t.settleLocked(x) // closed in order, and the answer did not meet a closed socket
	default:
		x.at = now
		t.moveLocked(x, written)
	}
	return true
}

// Forget says that nothing has come of the request: whoever sends it again begins anew.
func (x *Exchange) Forget() {
	x.table.mu.Lock()
	defer x.table.mu.Unlock()
	x.table.settleLocked(x)
}

// Abandon says that the request ends without an answer; whoever sends it again attaches.
func (x *Exchange) Abandon() {
	x.table.mu.Lock()
	defer x.table.mu.Unlock()
	if x.state == running || x.state == answering {
		x.table.cutLocked(x, time.Now(), false)
	}
}
