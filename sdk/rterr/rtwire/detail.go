// Package rtwire turns an rterr.Error into the ErrorDetail message and back. rtgrpc and rthttp carry that message.
package rtwire

import (
	"maps"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// ToDetail returns the message for err, nil for nil. Op and Detail travel as one text.
func ToDetail(err error) *agentv1.ErrorDetail {
	e := rterr.From(err)
	if e == nil {
		return nil
	}
	bare := *e
	bare.Field = ""
	d := &agentv1.ErrorDetail{
		Reason:    agentv1.Reason(e.Reason),
		Message:   bare.Error(),
		Field:     e.Field,
		Evidence:  maps.Clone(e.Evidence),
		Remedy:    e.Remedy,
		Retryable: e.Retryable,
		Ran:       agentv1.Ran(e.Ran),
	}
	if e.RetryAfter > 0 {
		d.RetryAfter = durationpb.New(e.RetryAfter)
	}
	return d
}

// FromDetail returns the error that d describes, nil for nil. A reason newer than this build becomes Internal.
func FromDetail(d *agentv1.ErrorDetail) *rterr.Error {
	if d == nil {
		return nil
	}
	reason := rterr.Reason(d.GetReason())
	if d.GetReason() <= 0 || int(d.GetReason()) > len(rterr.Reasons()) {
		reason = rterr.Internal
	}
	e := &rterr.Error{
		Reason:    reason,
		Detail:    d.GetMessage(),
		Field:     d.GetField(),
		Evidence:  maps.Clone(d.GetEvidence()),
		Remedy:    d.GetRemedy(),
		Retryable: d.GetRetryable(),
		Ran:       rterr.Ran(d.GetRan()),
	}
	if d.GetRetryAfter() != nil {
		e.RetryAfter = d.GetRetryAfter().AsDuration()
	}
	return e
}
