package server

import (
	"sync"
	"time"
)

// lease is a deadline that can be moved until it has passed.
type lease struct {
	mu    sync.Mutex
	timer *time.Timer
	until time.Time
	over  bool
	// ended is closed when the deadline passes.
	ended chan struct{}
}

func newLease() *lease { return &lease{ended: make(chan struct{})} }

// start sets the first deadline, unless one was set already or d is zero.
func (l *lease) start(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d > 0 && l.timer == nil && !l.over {
		l.set(d)
	}
}

// renew moves the deadline to d from now; zero lets it pass at once. It returns the deadline, false if it has passed already.
func (l *lease) renew(d time.Duration) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return l.until, false
	}
	l.set(d)
	if d == 0 {
		l.pass()
	}
	return l.until, true
}

// set is called with mu held. A timer that fires while it waits for mu sees the new deadline and goes away.
func (l *lease) set(d time.Duration) {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.until = time.Now().Add(d)
	l.timer = time.AfterFunc(d, l.fire)
}

func (l *lease) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over && !time.Now().Before(l.until) {
		l.pass()
	}
}

func (l *lease) pass() {
	l.over = true
	l.timer.Stop()
	close(l.ended)
}

// deadline returns when the lease ends, zero if there is none.
func (l *lease) deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// stop lets go of the timer.
func (l *lease) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
