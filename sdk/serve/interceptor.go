package serve

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

// guard stands around every call: admission, panics, typed errors, the request log.
type guard struct {
	gate   *gate
	logger hclog.Logger
}

func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	err = g.call(ctx, info.FullMethod, func(ctx context.Context) error {
		answer, err = handler(ctx, req)
		return err
	})
	return answer, err
}

func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return g.call(ss.Context(), info.FullMethod, func(ctx context.Context) error {
		return handler(srv, &streamWithContext{ServerStream: ss, ctx: ctx})
	})
}

// streamWithContext is a stream whose calls also end when the plugin stops.
type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the call's context.
func (s *streamWithContext) Context() context.Context { return s.ctx }

func (g *guard) call(ctx context.Context, method string, do func(context.Context) error) error {
	ctx, leave, err := g.gate.enter(ctx, method)
	if err != nil {
		return rtgrpc.ToStatus(err)
	}
	defer leave()
	start := time.Now()
	err = rtgrpc.ToStatus(explained(method, g.recovered(ctx, method, do)))
	if g.logger.IsTrace() {
		g.logger.Trace("call", "method", path.Base(method), "took", time.Since(start).String(), "code", status.Code(err).String())
	}
	return err
}

// explained gives the generated answer for a method that the author left out the detail that every error of the contract has.
// Its code stays UNIMPLEMENTED; other bare statuses are the author's own words, and pass unchanged.
func explained(method string, err error) error {
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.Unimplemented || len(st.Details()) > 0 || isOurs(err) {
		return err
	}
	return rterr.New(rterr.Unsupported, "", "the backend does not implement %s", path.Base(method)).WithRan(rterr.RanNo)
}

func isOurs(err error) bool {
	_, ours := errors.AsType[*rterr.Error](err)
	return ours
}

// recovered turns a panic of do into an Internal error: one call fails, the process lives.
func (g *guard) recovered(ctx context.Context, method string, do func(context.Context) error) (err error) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		stack := stackBelowPanic(string(debug.Stack()))
		g.logger.Error("panic in a call", "method", path.Base(method), "panic", fmt.Sprint(r), "stack", stack)
		// What travels is UTF-8; a panic's value may be anything, and the cut may fall into a character.
		valid := func(s string) string { return strings.ToValidUTF8(s, "?") }
		err = rterr.New(rterr.Internal, "", "the plugin panicked: %s", valid(fmt.Sprint(r))).
			With("stack", valid(stack[:min(len(stack), stackTop)])).WithRan(rterr.RanUnknown)
	}()
	return do(ctx)
}

// stackBelowPanic drops the frames of the recovery itself: the first line is where the panic was raised.
func stackBelowPanic(stack string) string {
	if _, rest, ok := strings.Cut(stack, "\npanic("); ok {
		if _, frames, ok := strings.Cut(rest, "\n\t"); ok {
			_, frames, _ = strings.Cut(frames, "\n")
			return frames
		}
	}
	return stack
}
