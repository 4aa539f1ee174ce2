package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	phaseRunning = backendv1.Phase_PHASE_RUNNING
	phasePaused  = backendv1.Phase_PHASE_PAUSED
	phaseGone    = backendv1.Phase_PHASE_GONE
)

func statusClauses() []clause {
	return []clause{
		{name: "status/first", run: statusFirst,
			rule: "WatchStatus tells the phase at once: RUNNING for a sandbox that is connected."},
		{name: "status/pause", needs: []need{needPause()}, run: statusPause,
			rule: "WatchStatus tells PAUSED after Pause and RUNNING after Resume."},
		{name: "status/gone", run: statusGone,
			rule: "PHASE_GONE is the last value of WatchStatus, after which the stream ends without error."},
		{name: "status/heartbeat", run: statusHeartbeat,
			rule: "WatchStatus repeats its value at least every 15 s."},
	}
}

type phases struct {
	stream grpc.ServerStreamingClient[backendv1.WatchStatusResponse]
}

func watch(ctx context.Context, sb *sandbox) (*phases, error) {
	stream, err := sb.WatchStatus(ctx, &backendv1.WatchStatusRequest{Handle: sb.handle, AgentCredential: sb.credential()})
	return &phases{stream}, wire(err)
}

func (p *phases) next() (backendv1.Phase, error) {
	value, err := p.stream.Recv()
	if errors.Is(err, io.EOF) {
		return 0, errors.New("WatchStatus ended")
	}
	if err == nil && value.GetAt() == nil {
		return 0, fmt.Errorf("%s has no time", value.GetPhase())
	}
	return value.GetPhase(), wire(err)
}

// until reads on while the phase is one of the old ones, and wants the new one then.
func (p *phases) until(want backendv1.Phase, old ...backendv1.Phase) error {
	for {
		got, err := p.next()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", want, err)
		}
		if got == want {
			return nil
		}
		if !contains(old, got) {
			return fmt.Errorf("want %s, got %s", want, got)
		}
	}
}

func contains(all []backendv1.Phase, p backendv1.Phase) bool {
	for _, q := range all {
		if p == q {
			return true
		}
	}
	return false
}

// ended wants the regular end of the stream.
func (p *phases) ended() error {
	value, err := p.stream.Recv()
	switch {
	case err == nil:
		return fmt.Errorf("%s came after PHASE_GONE", value.GetPhase())
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("the stream ended with an error after PHASE_GONE: %w", wire(err))
	}
	return nil
}

func statusFirst(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("read the first value")
	// A value that only comes with a heartbeat is no first value.
	ctx, cancel := context.WithTimeout(ctx, heartbeatLimit/4)
	defer cancel()
	w, err := watch(ctx, sb)
	if err != nil {
		return err
	}
	return w.until(phaseRunning)
}

func statusPause(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.step("read the first value")
	w, err := watch(ctx, sb)
	if err != nil {
		return err
	}
	if err := w.until(phaseRunning); err != nil {
		return err
	}
	if err := pause(ctx, c, sb); err != nil {
		return err
	}
	c.step("read the phase after Pause")
	if err := w.until(phasePaused, phaseRunning); err != nil {
		return err
	}
	if err := resume(ctx, c, sb); err != nil {
		return err
	}
	c.step("read the phase after Resume")
	return w.until(phaseRunning, phasePaused)
}

func statusGone(ctx context.Context, c *check) error {
	sb, err := c.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.step("read the first value")
	w, err := watch(ctx, sb)
	if err != nil {
		return err
	}
	if err := w.until(phaseRunning); err != nil {
		return err
	}
	c.step("close the sandbox")
	if err := sb.delete(ctx); err != nil {
		return err
	}
	c.step("read the phase after Close, for as long as two heartbeats may be apart")
	slow := time.AfterFunc(heartbeatLimit, cancel)
	err = w.until(phaseGone, phaseRunning)
	if !slow.Stop() {
		return fmt.Errorf("it was not told within %v: %w", heartbeatLimit, err)
	}
	if err != nil {
		return err
	}
	if err := w.ended(); err != nil {
		return err
	}
	c.step("watch what is gone")
	if w, err = watch(ctx, sb); err != nil {
		return err
	}
	// A sandbox that nobody knows any more may be told as a value or as an error.
	if err := w.until(phaseGone); err != nil {
		return wantReason(errors.Unwrap(err), rterr.SandboxGone)
	}
	return w.ended()
}

func statusHeartbeat(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("read two values")
	ctx, cancel := context.WithTimeout(ctx, callLimit+heartbeatLimit)
	defer cancel()
	w, err := watch(ctx, sb)
	if err != nil {
		return err
	}
	if err := w.until(phaseRunning); err != nil {
		return err
	}
	timer := time.AfterFunc(heartbeatLimit, cancel)
	defer timer.Stop()
	if err := w.until(phaseRunning); err != nil {
		return fmt.Errorf("no heartbeat within %v: %w", heartbeatLimit, err)
	}
	return nil
}

// pause pauses a sandbox.
func pause(ctx context.Context, c *check, sb *sandbox) error {
	c.step("pause")
	_, err := sb.Pause(ctx, &backendv1.PauseRequest{Handle: sb.handle, AgentCredential: sb.credential()})
	return wire(err)
}

// resume resumes a sandbox and takes the handle that is to be used from then on.
func resume(ctx context.Context, c *check, sb *sandbox) error {
	c.step("resume")
	answer, err := sb.Resume(ctx, &backendv1.ResumeRequest{Handle: sb.handle, AgentCredential: sb.credential(), Lease: sb.req.GetLease()})
	if err != nil {
		return wire(err)
	}
	if answer.GetHandle().GetSandboxId() != sb.id() {
		return fmt.Errorf("the handle after Resume is of sandbox %q, before it was %q", answer.GetHandle().GetSandboxId(), sb.id())
	}
	sb.adopt(answer.GetHandle())
	return nil
}
