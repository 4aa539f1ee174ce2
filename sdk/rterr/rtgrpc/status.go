// Package rtgrpc maps rterr to gRPC status and back; it is the only place that does.
package rtgrpc

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// Code returns the gRPC code of a reason.
func Code(r rterr.Reason) codes.Code {
	switch r {
	case rterr.InvalidArgument, rterr.ConfigInvalid, rterr.UnknownKind:
		return codes.InvalidArgument
	case rterr.Unauthenticated:
		return codes.Unauthenticated
	case rterr.PermissionDenied:
		return codes.PermissionDenied
	case rterr.NotFound, rterr.SandboxGone:
		return codes.NotFound
	case rterr.AlreadyExists, rterr.ActionConflict:
		return codes.AlreadyExists
	case rterr.IllegalState, rterr.SandboxPaused:
		return codes.FailedPrecondition
	case rterr.Unsupported:
		return codes.Unimplemented
	case rterr.LimitExceeded, rterr.QuotaExceeded, rterr.RateLimited:
		return codes.ResourceExhausted
	case rterr.Timeout:
		return codes.DeadlineExceeded
	case rterr.Cancelled:
		return codes.Canceled
	case rterr.Network, rterr.SandboxUnreachable, rterr.PluginUnavailable, rterr.Unavailable:
		return codes.Unavailable
	case rterr.Provider, rterr.OutcomeUnknown:
		return codes.Aborted
	case rterr.Integrity:
		return codes.DataLoss
	default:
		return codes.Internal
	}
}

// ToStatus returns the gRPC error for err, nil for nil. A status that err already is, is passed on.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*rterr.Error](err); !ours {
		if st, ok := status.FromError(err); ok && st.Code() != codes.Unknown {
			return err
		}
	}
	e := rterr.From(err)
	st, detailErr := status.New(Code(e.Reason), e.Error()).WithDetails(rtwire.ToDetail(e))
	if detailErr != nil {
		return status.Error(Code(e.Reason), e.Error())
	}
	return st.Err()
}

// FromStatus returns the error behind a gRPC error, nil for nil. Without an ErrorDetail the code decides: Unimplemented is
// Unsupported, Unavailable is Network, and so on.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[*rterr.Error](err); ours {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return rterr.Wrap(rterr.Internal, "", err)
	}
	for _, d := range st.Details() {
		if detail, ok := d.(*agentv1.ErrorDetail); ok {
			return rtwire.FromDetail(detail).WithCause(err)
		}
	}
	return rterr.New(reasonOf(st.Code()), "", "%s", st.Message()).WithCause(err)
}

func reasonOf(c codes.Code) rterr.Reason {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange:
		return rterr.InvalidArgument
	case codes.Unauthenticated:
		return rterr.Unauthenticated
	case codes.PermissionDenied:
		return rterr.PermissionDenied
	case codes.NotFound:
		return rterr.NotFound
	case codes.AlreadyExists:
		return rterr.AlreadyExists
	case codes.FailedPrecondition:
		return rterr.IllegalState
	case codes.Unimplemented:
		return rterr.Unsupported
	case codes.ResourceExhausted:
		return rterr.LimitExceeded
	case codes.DeadlineExceeded:
		return rterr.Timeout
	case codes.Canceled:
		return rterr.Cancelled
	case codes.Unavailable:
		return rterr.Network
	case codes.DataLoss:
		return rterr.Integrity
	default:
		return rterr.Internal
	}
}
