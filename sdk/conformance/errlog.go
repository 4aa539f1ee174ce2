package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// maxBare bounds the distinct complaints that are kept.
const maxBare = 50

// bareErrors watches every call of a run and keeps the errors that came without a proper ErrorDetail.
type bareErrors struct {
	mu   sync.Mutex
	seen []string
}

func (b *bareErrors) list() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

func (b *bareErrors) look(ctx context.Context, method string, err error) {
	if complaint := bareError(err); complaint != "" && !madeHere(ctx, err) {
		b.mu.Lock()
		defer b.mu.Unlock()
		complaint = method + ": " + complaint
		if len(b.seen) < maxBare && !slices.Contains(b.seen, complaint) {
			b.seen = append(b.seen, complaint)
		}
	}
}

// bareError says what an error lacks, "" for nothing.
func bareError(err error) string {
	st, ok := status.FromError(err)
	if err == nil || errors.Is(err, io.EOF) || !ok {
		return ""
	}
	for _, d := range st.Details() {
		detail, ours := d.(*agentv1.ErrorDetail)
		switch {
		case !ours:
		case detail.GetReason() == agentv1.Reason_REASON_UNSPECIFIED:
			return fmt.Sprintf("%s with an ErrorDetail of no reason: %q", st.Code(), st.Message())
		case detail.GetMessage() == "":
			return fmt.Sprintf("%s with an ErrorDetail of no message", st.Code())
		default:
			return ""
		}
	}
	return fmt.Sprintf("%s without an ErrorDetail: %q", st.Code(), st.Message())
}

// madeHere reports whether this side's gRPC may have made the error itself: the call was given up, or the connection is gone or
// was closed.
func madeHere(ctx context.Context, err error) bool {
	return ctx.Err() != nil || status.Code(err) == codes.Unavailable || errors.Is(err, closedHere()) || outOfTime(ctx, err)
}

// outOfTime reports whether a call ended by its deadline, which the other side may notice a moment before this one.
func outOfTime(ctx context.Context, err error) bool {
	deadline, has := ctx.Deadline()
	return has && status.Code(err) == codes.DeadlineExceeded && time.Until(deadline) < deadlineSkew
}

// closedHere is what calls on a connection fail with that this side has closed.
func closedHere() error {
	return status.Error(codes.Canceled, "grpc: the client connection is closing")
}

func (b *bareErrors) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	call grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := call(ctx, method, req, reply, conn, options...)
	b.look(ctx, method, err)
	return err
}

func (b *bareErrors) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	inner, err := open(ctx, desc, conn, method, options...)
	if err != nil {
		b.look(ctx, method, err)
		return nil, err
	}
	return &watchedStream{ctx: ctx, ClientStream: inner, method: method, errors: b}, nil
}

type watchedStream struct {
	ctx context.Context // the caller's: the stream's own ends with the stream

	grpc.ClientStream
	method string
	errors *bareErrors
}

func (w *watchedStream) RecvMsg(m any) error {
	err := w.ClientStream.RecvMsg(m)
	w.errors.look(w.ctx, w.method, err)
	return err
}
