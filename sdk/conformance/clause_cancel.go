package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// cancelTries bounds how often a Connect is cancelled until the plugin knew of it in time.
const cancelTries = 10

// cancelledConnect is a Connect that was given up.
type cancelledConnect struct {
	*sandbox
	after int // so many events
}

func connectCancelled(ctx context.Context, c *check) error {
	p, err := c.separate(ctx)
	if err != nil {
		return err
	}
	whole, err := c.quicker(ctx, p)
	if err != nil {
		return err
	}
	var judged []cancelledConnect
	for _, after := range earlyEvents(whole) {
		c.step("cancel a Connect after %d of %d events", after, len(whole.events))
		one, err := c.cancelInTime(ctx, p, after, whole.length()/2)
		if err != nil {
			return err
		}
		judged = append(judged, one...)
	}
	c.step("wait for the cancelled calls to end")
	if err := c.settle(ctx, p, 2*whole.length()); err != nil {
		return err
	}
	for _, one := range judged {
		c.step("list what is left of a Connect that was cancelled after %d of %d events", one.after, len(whole.events))
		if err := wantClean(ctx, one.sandbox); err != nil {
			return err
		}
	}
	return nil
}

// quicker makes two sandboxes and returns how the quicker one came about: the first may have found caches cold.
func (c *check) quicker(ctx context.Context, p *peer) (*trace, error) {
	first, err := c.connectOn(ctx, p)
	if err != nil {
		return nil, err
	}
	second, err := c.connectOn(ctx, p)
	if err != nil {
		return nil, err
	}
	if first.trace.length() < second.trace.length() {
		return first.trace, nil
	}
	return second.trace, nil
}

// earlyEvents returns after how many events a Connect is cancelled: none, and those that come while most of the work is still to
// be done.
func earlyEvents(t *trace) []int {
	early := 0
	for i, came := range t.came {
		if came < t.length()/4 {
			early = i + 1
		}
	}
	return slices.Compact([]int{0, early})
}

// cancelInTime gives up a Connect so early that the plugin surely was still at work when it learned of it: one that had just done
// its work could not be blamed for what it made. What came too late, on a machine that is busy with other things, is tried again;
// if nothing ever comes in time, there is nothing to judge.
func (c *check) cancelInTime(ctx context.Context, p *peer, after int, limit time.Duration) ([]cancelledConnect, error) {
	for range cancelTries {
		sb := &sandbox{peer: p, req: c.s.request(), log: c.s.log.Warn}
		c.later(sb.discardIntent)
		took, err := cancelAfter(ctx, sb, after)
		if err != nil {
			return nil, err
		}
		if took < limit {
			return []cancelledConnect{{sandbox: sb, after: after}}, nil
		}
	}
	return nil, nil
}

// cancelAfter starts a Connect and gives it up after some events. It returns how long after the start the plugin knew of it.
func cancelAfter(ctx context.Context, sb *sandbox, events int) (time.Duration, error) {
	brief, cancel := context.WithCancel(ctx)
	defer cancel()
	opened := time.Now()
	stream, err := sb.Connect(brief, sb.req)
	if err != nil {
		return 0, wire(err)
	}
	for range events {
		if _, err := stream.Recv(); err != nil {
			return 0, wire(err)
		}
	}
	cancel()
	// Calls share a connection, on which the cancellation goes out before this: the answer says that it has arrived.
	_, err = sb.Describe(ctx, &backendv1.DescribeRequest{})
	return time.Since(opened), wire(err)
}

// settle waits until the plugin's running calls have ended: by Drain where the plugin is the clause's own and has it, else for as
// long as they would have taken.
func (c *check) settle(ctx context.Context, p *peer, enough time.Duration) error {
	if p != c.s.main {
		_, err := p.Drain(ctx, &backendv1.DrainRequest{})
		if err = wire(err); !rterr.Is(err, rterr.Unsupported) {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(enough):
		return nil
	}
}

// wantClean checks that a creation has left no sandbox. What the plugin still does after its call has ended is given cancelGrace;
// no event tells the end of that, so List is repeated.
func wantClean(ctx context.Context, sb *sandbox) error {
	late := time.NewTimer(cancelGrace)
	defer late.Stop()
	ticker := time.NewTicker(cancelLook)
	defer ticker.Stop()
	for {
		left, err := sb.intents(ctx)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-late.C:
			return fmt.Errorf("sandbox %s, which nobody got, is still listed after %v", left[0].GetHandle().GetSandboxId(), cancelGrace)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
