package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// instance is one kernel from its start to its death.
type instance struct {
	cfg   Config
	child *child
	codec codec
	links
	readers sync.WaitGroup
	// drained is closed when the kernel is dead and all that it has displayed has been delivered.
	drained chan struct{}

	// dir is the last working directory that was pushed, initialised the code that was run at the start, left a cell that was given
	// up and may still run. They belong to whoever has the turn.
	dir         string
	initialised string
	left        *request

	mu sync.Mutex
	// requests that have no answer yet, by their id.
	requests map[string]*request
	// ignored counts the messages that belong to none: output of threads, comms, what we do not know.
	ignored int
	// broken is why the talk with the kernel has ended, and broke closed then.
	broken error
	broke  chan struct{}
}

// request is one that waits for its answer. done is closed when the answer is there and all that it displays has come.
type request struct {
	id   string
	busy chan struct{}
	done chan struct{}

	mu            sync.Mutex
	to            *collector
	began         bool
	replied, idle bool
	ended         bool
}

// launch starts a kernel in dir and waits until it answers. Nothing is left of it after an error.
func launch(ctx context.Context, cfg Config, group, dir string) (*instance, error) {
	late := rterr.New(rterr.Timeout, "", "the kernel was not ready within %v", waitStart)
	ctx, cancel := context.WithTimeoutCause(ctx, waitStart, late)
	defer cancel()
	key, err := cfg.prepare()
	if err != nil {
		return nil, err
	}
	ch, said, err := cfg.spawn(ctx, group, dir)
	if err != nil {
		return nil, err
	}
	links, err := cfg.connectAll(ctx)
	if err != nil {
		ch.end(cfg)
		return nil, err
	}
	in := &instance{cfg: cfg, child: ch, links: links, dir: dir, codec: codec{key: []byte(key), session: group},
		requests: map[string]*request{}, drained: make(chan struct{}), broke: make(chan struct{})}
	in.readers.Go(func() { in.read(in.shell) })
	in.readers.Go(func() { in.read(in.control) })
	go in.supervise()
	if err := in.meet(ctx); err != nil {
		in.end()
		return nil, err
	}
	cfg.Logger.Debug("a kernel has started", "pid", ch.cmd.Process.Pid, "python", said.Python, "version", said.Version)
	return in, nil
}

// supervise sees the kernel to its end. One that breaks the talk off and lives on is killed: what it does cannot be told any more.
func (in *instance) supervise() {
	defer close(in.drained)
	displayed := make(chan struct{})
	go func() {
		defer close(displayed)
		in.read(in.iopub)
	}()
	select {
	case <-in.child.dead:
	case <-in.broke:
		patience := time.AfterFunc(waitDrained, in.child.kill)
		<-in.child.dead
		patience.Stop()
	}
	linger := time.AfterFunc(waitDrained, in.iopub.close)
	<-displayed
	linger.Stop()
	in.links.close()
	in.readers.Wait()
	in.child.forget(in.cfg)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cfg.Logger.Debug("a kernel has ended", "state", in.child.state(), "messages_of_no_cell", in.ignored)
}

// meet makes sure that the channels work.
func (in *instance) meet(ctx context.Context) error {
	if err := in.subscribed(ctx); err != nil {
		return err
	}
	return in.hidden(ctx, "%colors nocolor")
}

// subscribed waits until what the kernel displays reaches us. What it says before is lost, and nothing says when it does.
func (in *instance) subscribed(ctx context.Context) error {
	for {
		r, err := in.ask(in.shell, "kernel_info_request", struct{}{}, nil)
		if err != nil {
			return err
		}
		again := time.NewTimer(waitSubscribed)
		select {
		case <-r.done:
			again.Stop()
			return nil
		case <-again.C:
			in.drop(r)
		case <-in.drained:
			again.Stop()
			return in.death()
		case <-ctx.Done():
			again.Stop()
			return rterr.Wrap(rterr.Timeout, "", context.Cause(ctx))
		}
	}
}

// read gives the messages of a link to their requests, until it ends.
func (in *instance) read(l *link) {
	for {
		frames, err := l.read()
		if err != nil {
			in.fail(err)
			return
		}
		m, err := in.codec.decode(frames)
		if errors.Is(err, errSignature) {
			in.fail(err)
			return
		}
		if err == nil {
			err = in.deliver(l, m)
		}
		if err != nil {
			in.cfg.Logger.Warn("a message of the kernel is left out", "channel", l.name, "error", err)
		}
	}
}

// fail notes that there is no talking with the kernel any more, because of its death or because it does not keep to the protocol.
func (in *instance) fail(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.broken == nil {
		in.broken = err
		close(in.broke)
	}
}

// deliver gives a message to its request.
func (in *instance) deliver(l *link, m message) error {
	in.mu.Lock()
	r := in.requests[m.parent]
	if r == nil {
		in.ignored++
	}
	in.mu.Unlock()
	if r == nil {
		return nil
	}
	ended, err := r.take(l == in.iopub, m)
	if ended {
		in.drop(r)
	}
	return err
}

// take notes a message of the request; ended is true for its last one.
func (r *request) take(displayed bool, m message) (ended bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !displayed:
		r.replied = true
	case m.kind == "status":
		err = r.status(m.content)
	case r.to != nil:
		err = r.to.take(m)
	}
	if r.replied && r.idle && !r.ended {
		r.ended = true
		close(r.done)
	}
	return r.ended, err
}

func (r *request) status(content json.RawMessage) error {
	var s statusContent
	if err := json.Unmarshal(content, &s); err != nil {
		return err
	}
	if !r.began {
		r.began = true
		close(r.busy)
	}
	r.idle = r.idle || s.State == "idle"
	return nil
}

// detach lets the request go on without anybody who listens.
func (r *request) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = nil
}

// ask sends a request; what it displays goes to a collector, which may be nil.
func (in *instance) ask(l *link, kind string, content any, to *collector) (*request, error) {
	id, frames, err := in.codec.encode(kind, content)
	if err != nil {
		return nil, err
	}
	r := &request{id: id, to: to, busy: make(chan struct{}), done: make(chan struct{})}
	in.mu.Lock()
	in.requests[id] = r
	in.mu.Unlock()
	if err := l.write(frames); err != nil {
		in.drop(r)
		in.fail(err)
		return nil, err
	}
	return r, nil
}

func (in *instance) drop(r *request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.requests, r.id)
}

// execute sends a cell. A hidden one leaves no trace in the history.
func (in *instance) execute(code string, hidden bool, to *collector) (*request, error) {
	return in.ask(in.shell, "execute_request", executeRequest{Code: code, StoreHistory: !hidden}, to)
}

// hidden runs a cell of ours and drops what it displays, but an exception, which is the error.
func (in *instance) hidden(ctx context.Context, code string) error {
	to := &collector{out: io.Discard}
	r, err := in.execute(code, true, to)
	if err != nil {
		return err
	}
	select {
	case <-r.done:
	case <-in.drained:
		return in.death()
	case <-ctx.Done():
		r.detach()
		in.left = r
		return context.Cause(ctx)
	}
	if to.failed {
		text, _ := to.result()
		return errors.New(text)
	}
	return nil
}

// interrupt sends a KeyboardInterrupt to what runs, by the control channel.
func (in *instance) interrupt() error {
	r, err := in.ask(in.control, "interrupt_request", struct{}{}, nil)
	if err == nil {
		in.drop(r) // Its answer says nothing more.
	}
	return err
}

// end kills the kernel and what it has started in its group, if they live, and waits for that. It may be called again.
func (in *instance) end() {
	in.child.killAll(in.cfg)
	<-in.drained
}

// death is how the kernel has ended; drained must be closed.
func (in *instance) death() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	e := rterr.New(rterr.SandboxGone, "", "the kernel ended: %s", in.child.state()).With("log", in.child.log.String())
	if in.broken != nil {
		e = e.WithCause(in.broken)
	}
	return e
}

// alive reports whether the kernel can still be asked.
func (in *instance) alive() bool {
	select {
	case <-in.child.dead:
		return false
	default:
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.broken == nil
}
