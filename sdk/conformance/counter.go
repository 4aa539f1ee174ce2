package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// countScript writes a number and the sandbox's own clock, over and over.
const countScript = `i=0; while :; do i=$((i+1)); read -r up rest < /proc/uptime; echo "$i $up"; sleep 0.05; done`

// tick is one line of a counter.
type tick struct {
	number  int
	clock   time.Duration // the sandbox's
	arrived time.Time     // ours
}

// counter follows an action that counts, over cuts of its stream. Its goroutine ends with its context.
type counter struct {
	mu      sync.Mutex
	ticks   []tick
	err     error
	changed chan struct{} // closed and replaced at every change
	done    chan struct{}
}

// count starts a counter in a sandbox. stop gives it up and kills the action.
func count(ctx context.Context, sb *sandbox) (c *counter, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	c = &counter{changed: make(chan struct{}), done: make(chan struct{})}
	a := shell(countScript)
	go func() {
		defer close(c.done)
		c.fail(c.follow(ctx, sb, a))
	}()
	return c, func() {
		_, _ = pluginRoute{}.interrupt(ctx, sb, a.GetId(), levelKill)
		cancel()
		<-c.done
	}
}

func (c *counter) follow(ctx context.Context, sb *sandbox, a *agentv1.Action) error {
	o := order{action: a}
	for {
		r, err := startOn(ctx, pluginRoute{}, sb, o)
		if err != nil {
			return err
		}
		err = c.read(r)
		r.close()
		if r.record == nil || r.last != nil || ctx.Err() != nil {
			return errors.Join(err, fmt.Errorf("the counter ended: %s", told(r.last)))
		}
		o = order{action: &agentv1.Action{Id: a.GetId()}, attach: true, from: at(r.nextOffset(stdout))}
	}
}

func (c *counter) read(r *running) error {
	seen := 0
	for {
		if err := r.next(); err != nil {
			return err
		}
		text := string(r.output[stdout][seen:])
		whole := strings.LastIndexByte(text, '\n') + 1
		seen += whole
		for line := range strings.Lines(text[:whole]) {
			c.add(line)
		}
	}
}

func (c *counter) add(line string) {
	t := tick{arrived: time.Now()}
	var up float64
	// A line that was cut by a reattach does not parse; it shows as a hole in the numbers.
	if _, err := fmt.Sscanf(line, "%d %f", &t.number, &up); err != nil {
		return
	}
	t.clock = time.Duration(up * float64(time.Second))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ticks = append(c.ticks, t)
	c.tell()
}

func (c *counter) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.tell()
}

// tell needs mu.
func (c *counter) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// more waits until the counter has written n more lines, and returns all that it wrote so far.
func (c *counter) more(ctx context.Context, n int) ([]tick, error) {
	want := -1
	for {
		c.mu.Lock()
		ticks, err, changed := c.ticks, c.err, c.changed
		c.mu.Unlock()
		if want < 0 {
			want = len(ticks) + n
		}
		if len(ticks) >= want {
			return ticks, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the counter wrote %d lines, %d were awaited: %w", len(ticks), want, ctx.Err())
		}
	}
}

// longestHold returns the longest time between two lines, by the sandbox's clock or ours, and checks that no number is missing.
func longestHold(ticks []tick) (time.Duration, error) {
	var longest time.Duration
	for i := 1; i < len(ticks); i++ {
		before, after := ticks[i-1], ticks[i]
		if after.number != before.number+1 {
			return 0, fmt.Errorf("line %d came after line %d", after.number, before.number)
		}
		longest = max(longest, after.clock-before.clock, after.arrived.Sub(before.arrived))
	}
	return longest, nil
}
