package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// errSilent is the cause of a stream on which not even heartbeats came.
var errSilent = errors.New("no heartbeat")

// Execute runs an action, or attaches to it if its id is known. It returns after the record has come. An error from then on
// back to the call says whether the action ran: no where nothing was sent, unknown where the connection broke.
func (c *Client) Execute(ctx context.Context, req *agentv1.ExecuteRequest) (agent.Stream, error) {
	req = withID(req)
	return c.open(ctx, "execute "+req.GetAction().GetId(), rterr.RanUnknown,
		func(ctx context.Context) (*connect.ServerStreamForClient[agentv1.ActionEvent], error) {
			return c.rpc.Execute(ctx, connect.NewRequest(req))
		})
}

// withID chooses the action's id here where the caller left it open, so that a request that has to be sent again is the same.
func withID(req *agentv1.ExecuteRequest) *agentv1.ExecuteRequest {
	a := req.GetAction()
	if a == nil || a.GetId() != "" {
		return req
	}
	return &agentv1.ExecuteRequest{Output: req.GetOutput(), From: req.GetFrom(), Action: &agentv1.Action{
		Id: action.NewID(), Kind: a.GetKind(), Payload: a.GetPayload(), Timeout: a.GetTimeout(), Digest: a.GetDigest(),
	}}
}

// Attach streams a known action from the wanted offsets on. It returns after the record has come.
func (c *Client) Attach(ctx context.Context, req *agentv1.AttachRequest) (agent.Stream, error) {
	return c.open(ctx, "attach to "+req.GetActionId(), rterr.RanUnspecified,
		func(ctx context.Context) (*connect.ServerStreamForClient[agentv1.ActionEvent], error) {
			return c.rpc.Attach(ctx, connect.NewRequest(req))
		})
}

func (c *Client) open(ctx context.Context, op string, broken rterr.Ran,
	call func(context.Context) (*connect.ServerStreamForClient[agentv1.ActionEvent], error)) (agent.Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stream{client: c, op: op, ctx: ctx, cancel: cancel, broken: broken}
	s.watch = time.AfterFunc(silence, func() { cancel(errSilent) })
	upstream, err := call(ctx)
	if err != nil {
		err = s.cut(err)
		s.stop()
		return nil, err
	}
	s.upstream = upstream
	for s.first == nil {
		ev, err := s.next()
		if err != nil {
			_ = s.Close() // err says why
			return nil, err
		}
		if ev.GetHeartbeat() == nil {
			s.first = ev
		}
	}
	s.broken = rterr.RanUnspecified // from here on the record is known: attaching tells the rest
	return s, nil
}

// stream is agent.Stream over Connect.
type stream struct {
	client   *Client
	op       string
	ctx      context.Context
	cancel   context.CancelCauseFunc
	upstream *connect.ServerStreamForClient[agentv1.ActionEvent]
	watch    *time.Timer
	broken   rterr.Ran
	first    *agentv1.ActionEvent
	done     atomic.Bool
	once     sync.Once
}

// Recv implements agent.Stream.
func (s *stream) Recv() (*agentv1.ActionEvent, error) {
	if ev := s.first; ev != nil {
		s.first = nil
		return ev, nil
	}
	if s.done.Load() {
		return nil, s.finish()
	}
	ev, err := s.next()
	if err != nil {
		s.stop()
		return nil, err
	}
	s.done.Store(ev.GetObservation() != nil)
	return ev, nil
}

// finish ends a stream whose observation has come.
func (s *stream) finish() error {
	if err := s.Close(); err != nil {
		return err
	}
	return io.EOF
}

// next receives without minding the order.
func (s *stream) next() (*agentv1.ActionEvent, error) {
	if !s.upstream.Receive() {
		return nil, s.cut(s.upstream.Err())
	}
	s.watch.Reset(silence)
	return s.upstream.Msg(), nil
}

// cut says why a stream ended before the observation. nil is an orderly end, which must not come before it either.
func (s *stream) cut(err error) error {
	cause := context.Cause(s.ctx)
	switch {
	case errors.Is(cause, errSilent):
		return rterr.Wrap(rterr.SandboxUnreachable, s.op, rterr.New(rterr.SandboxUnreachable, "", "nothing was heard for %v", silence).
			With("address", s.client.address).WithRan(s.broken).WithCause(errSilent))
	case err == nil:
		return rterr.New(rterr.Network, s.op, "the stream ended before the observation").With("address", s.client.address).
			WithRan(s.broken)
	}
	return s.client.fail(s.ctx, s.op, err, s.broken)
}

func (s *stream) stop() {
	s.watch.Stop()
	s.cancel(context.Canceled)
}

// Close implements agent.Stream.
func (s *stream) Close() error {
	s.once.Do(func() {
		if s.done.Load() {
			s.watch.Reset(lastBytes)
		} else {
			s.stop() // first, so that a blocked Recv ends; the connection is lost
		}
		if s.upstream != nil {
			_ = s.upstream.Close() // reads to the end, so that the connection is used again
		}
		s.stop()
	})
	return nil
}
