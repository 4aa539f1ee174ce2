package plugin

import (
	"context"
	"errors"
	"io"
	"path"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

var errLost = errors.New("the plugin is gone")

// typedConn is a link whose errors are *rterr.Error, with the operation "backend NAME: Method".
type typedConn struct {
	link    link
	backend string
}

var _ grpc.ClientConnInterface = (*typedConn)(nil)

// Invoke is a unary call.
func (c *typedConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.typed(ctx, method, c.link.raw().Invoke(ctx, method, args, reply, opts...))
}

// NewStream opens a stream whose errors are typed too.
func (c *typedConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := c.link.raw().NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, c.typed(ctx, method, err)
	}
	// The stream's own context ends with the stream, whatever ended it; the caller's tells the caller's will.
	typed := func(err error) error { return c.typed(ctx, method, err) }
	return &typedStream{ClientStream: stream, typed: typed}, nil
}

type typedStream struct {
	grpc.ClientStream
	typed func(error) error
}

// RecvMsg returns io.EOF at the end of the stream, else an *rterr.Error.
func (s *typedStream) RecvMsg(m any) error {
	return s.typed(s.ClientStream.RecvMsg(m))
}

// SendMsg returns io.EOF when the stream has ended: RecvMsg has the reason.
func (s *typedStream) SendMsg(m any) error {
	return s.typed(s.ClientStream.SendMsg(m))
}

// typed explains a gRPC error. It may wait up to lossLimit for the news that the plugin has died.
func (c *typedConn) typed(ctx context.Context, method string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	op := "backend " + c.backend + ": " + path.Base(method)
	if c.cutOff(ctx, err) {
		e := lossError(c.link, op).WithRan(ranAfterLoss(method)).WithCause(err)
		if c.link.fate().status == "" {
			e.Detail += ": " + status.Convert(err).Message()
		}
		return e
	}
	return rterr.Wrap(rterr.Internal, op, rtgrpc.FromStatus(err))
}

// cutOff tells an error of the connection from one of the plugin, and from the caller's own end.
func (c *typedConn) cutOff(ctx context.Context, err error) bool {
	st, ok := status.FromError(err)
	if !ok || len(st.Details()) > 0 || (st.Code() != codes.Unavailable && st.Code() != codes.Canceled) {
		return false
	}
	if ctx.Err() != nil && st.Code() == codes.Canceled {
		return false
	}
	if c.link.identity().pid == 0 {
		return true // an address has no exit status to wait for
	}
	timer := time.NewTimer(lossLimit)
	defer timer.Stop()
	select {
	case <-c.link.lost():
	case <-ctx.Done():
	case <-timer.C:
	}
	return true
}

// lossError says that, and how, the plugin went away.
func lossError(l link, op string) *rterr.Error {
	f := l.fate()
	detail := "no connection to the plugin"
	if f.status != "" {
		detail = "the plugin is gone: " + f.status
	}
	return withFate(rterr.New(rterr.PluginUnavailable, op, "%s", detail), f)
}

func withFate(e *rterr.Error, f fate) *rterr.Error {
	if f.status != "" {
		e = e.With("exit_status", f.status)
	}
	if f.lines != "" {
		e = e.With("last_lines", f.lines)
	}
	if f.panicText != "" {
		e = e.With("panic", f.panicText)
	}
	return e
}

// ranAfterLoss: a call that changes nothing did not run in any sense that matters; for the rest it cannot be known.
func ranAfterLoss(method string) rterr.Ran {
	switch method {
	case backendv1.BackendService_Describe_FullMethodName, backendv1.BackendService_Configure_FullMethodName,
		backendv1.BackendService_WatchStatus_FullMethodName, backendv1.BackendService_VSCodeURL_FullMethodName,
		backendv1.BackendService_Endpoint_FullMethodName, backendv1.BackendService_List_FullMethodName,
		backendv1.BackendService_Usage_FullMethodName, backendv1.BackendService_Logs_FullMethodName,
		backendv1.BackendService_Diagnose_FullMethodName:
		return rterr.RanNo
	default:
		return rterr.RanUnknown
	}
}
