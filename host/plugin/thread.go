package plugin

import "runtime"

// thread runs functions on one operating system thread that lives until stop. The kernel's "signal me when my parent dies"
// watches the thread that forked, not the process: a plugin started from a passing thread would be killed with it.
type thread struct {
	work    chan func()
	stopped chan struct{}
}

func newThread() *thread {
	t := &thread{work: make(chan func()), stopped: make(chan struct{})}
	go t.loop()
	return t
}

func (t *thread) loop() {
	defer close(t.stopped)
	// Never unlocked: the thread ends with this goroutine.
	runtime.LockOSThread()
	for f := range t.work {
		f()
	}
}

// do runs f there and returns when it has. Not after stop.
func (t *thread) do(f func()) {
	done := make(chan struct{})
	t.work <- func() { defer close(done); f() }
	<-done
}

// stop ends the thread. The plugins that it started must be gone.
func (t *thread) stop() {
	close(t.work)
	<-t.stopped
}
