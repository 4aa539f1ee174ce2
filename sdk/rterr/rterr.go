// Package rterr is the closed set of errors that openhands-rt speaks: what went wrong (Reason), where (Op), on what evidence,
// what to do about it, whether a retry can help, and whether the action ran.
//
// It imports the standard library alone, so that policy and state machines may use it. The mapping to the wire is next door:
// rtwire (the ErrorDetail message), rtgrpc (gRPC status), rthttp (HTTP status and Connect). Anyone may import it.
package rterr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Reason is why something failed. The zero value is never sent.
type Reason uint8

// The reasons. Their numbers are those of agent.v1 Reason.
const (
	Unspecified Reason = iota
	InvalidArgument
	Unauthenticated
	PermissionDenied
	NotFound
	AlreadyExists
	ActionConflict
	UnknownKind
	IllegalState
	Unsupported
	LimitExceeded
	QuotaExceeded
	RateLimited
	Timeout
	Cancelled
	Network
	SandboxGone
	SandboxUnreachable
	SandboxPaused
	PluginUnavailable
	Provider
	OutcomeUnknown
	ConfigInvalid
	Integrity
	Unavailable
	Internal

	reasonCount
)

// Ran says whether the action of a failed request was run.
type Ran uint8

// The answers to "did it run"; the numbers are those of agent.v1 Ran.
const (
	RanUnspecified Ran = iota
	RanNo
	RanYes
	RanUnknown
)

// String returns "no", "yes", "unknown" or "unspecified".
func (r Ran) String() string {
	switch r {
	case RanNo:
		return "no"
	case RanYes:
		return "yes"
	case RanUnknown:
		return "unknown"
	default:
		return "unspecified"
	}
}

// traits are what holds for every error of a reason, unless the error says otherwise.
type traits struct {
	name      string
	retryable bool
	remedy    string
}

func traitsOf(r Reason) traits {
	switch r {
	case InvalidArgument:
		return traits{"invalid_argument", false, "correct the named field and send the request again"}
	case Unauthenticated:
		return traits{"unauthenticated", false, "send a valid key; the daemon's is in the key file that endpoint.json names"}
	case PermissionDenied:
		return traits{"permission_denied", false, "ask the operator for the permission"}
	case NotFound:
		return traits{"not_found", false, "list what there is, and check the id"}
	case AlreadyExists:
		return traits{"already_exists", false, "choose another name, or attach to the existing one"}
	case ActionConflict:
		return traits{"action_conflict", false, "use a new action id for a new action"}
	case UnknownKind:
		return traits{"unknown_kind", false, "use one of the kinds that the runtime lists"}
	case IllegalState:
		return traits{"illegal_state", false, "wait for, or bring about, a state that allows it"}
	case Unsupported:
		return traits{"unsupported", false, "choose a backend whose capabilities have it"}
	case LimitExceeded:
		return traits{"limit_exceeded", true, "wait until running work has ended, or raise the limit in the config"}
	case QuotaExceeded:
		return traits{"quota_exceeded", false, "free what is not needed at the provider, or raise the quota there"}
	case RateLimited:
		return traits{"rate_limited", true, "slow down; retry after the given time"}
	case Timeout:
		return traits{"timeout", true, "retry, with a longer timeout if it goes on"}
	case Cancelled:
		return traits{"cancelled", false, ""}
	case Network:
		return traits{"network", true, "check that the address can be reached, then retry"}
	case SandboxGone:
		return traits{"sandbox_gone", false, "start a new runtime"}
	case SandboxUnreachable:
		return traits{"sandbox_unreachable", true, "wait; the host goes on looking for it until the lease ends"}
	case SandboxPaused:
		return traits{"sandbox_paused", true, "resume the runtime"}
	case PluginUnavailable:
		return traits{"plugin_unavailable", true, "see openhands-rt plugins ls for why the plugin is down"}
	case Provider:
		return traits{"provider", false, "see the evidence for the provider's own words"}
	case OutcomeUnknown:
		return traits{"outcome_unknown", false, "look at what the action would have changed before sending it under a new id"}
	case ConfigInvalid:
		return traits{"config_invalid", false, "correct the named key"}
	case Integrity:
		return traits{"integrity", false, "do not trust what is there; see the evidence"}
	case Unavailable:
		return traits{"unavailable", true, "retry shortly"}
	case Internal:
		return traits{"internal", false, "report it with the log lines of this moment"}
	default:
		return traits{"unspecified", false, ""}
	}
}

// Reasons returns every reason that can be sent, in the order of their numbers.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := InvalidArgument; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}

// String returns the reason's name as it is printed and put into JSON, "not_found" for NotFound.
func (r Reason) String() string { return traitsOf(r).name }

// Error is one failure. Build it with New or Wrap; treat it as read-only once it is returned.
type Error struct {
	Reason Reason
	// Op is the operation that failed, for people: "connect runtime r-01h".
	Op string
	// Detail says what happened, without the operation and without secrets.
	Detail string
	// Field is the path of the offending field, for InvalidArgument and ConfigInvalid.
	Field string
	// Evidence is what was seen. Values never hold secrets.
	Evidence map[string]string
	// Remedy is what the reader can do; New fills in the reason's usual one.
	Remedy string
	// Retryable: the same request may succeed later.
	Retryable bool
	// RetryAfter is the shortest sensible wait before a retry; zero if not known.
	RetryAfter time.Duration
	Ran        Ran

	cause error
}

// New returns an error of a reason with its usual remedy and retryability. detail is formatted as by fmt.Sprintf.
func New(r Reason, op, detail string, args ...any) *Error {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	t := traitsOf(r)
	return &Error{Reason: r, Op: op, Detail: detail, Remedy: t.remedy, Retryable: t.retryable}
}

// Wrap puts an operation before err. An *Error in err's chain keeps its reason and everything it says; a context error becomes
// Cancelled or Timeout; anything else gets the reason r. Wrap(nil) is nil.
func Wrap(r Reason, op string, err error) error {
	if err == nil {
		return nil
	}
	return wrap(r, op, err)
}

// wrap is Wrap for an error that is there.
func wrap(r Reason, op string, err error) *Error {
	if inner, ok := errors.AsType[*Error](err); ok {
		outer := *inner
		outer.Op = joinOp(op, inner.Op)
		outer.cause = err
		return &outer
	}
	switch {
	case errors.Is(err, context.Canceled):
		r = Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		r = Timeout
	}
	e := New(r, op, "%s", err.Error())
	e.cause = err
	return e
}

func joinOp(outer, inner string) string {
	switch {
	case inner == "":
		return outer
	case outer == "":
		return inner
	default:
		return outer + ": " + inner
	}
}

// Error returns "op: detail", with the field where there is one.
func (e *Error) Error() string {
	detail := e.Detail
	if detail == "" {
		detail = strings.ReplaceAll(e.Reason.String(), "_", " ")
	}
	if e.Field != "" {
		detail = e.Field + ": " + detail
	}
	if e.Op == "" {
		return detail
	}
	return e.Op + ": " + detail
}

// Unwrap returns the cause, nil if there is none.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Reason: r}) match on the reason alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// With adds a piece of evidence and returns e.
func (e *Error) With(key, value string) *Error {
	e.Evidence = maps.Clone(e.Evidence)
	if e.Evidence == nil {
		e.Evidence = map[string]string{}
	}
	e.Evidence[key] = value
	return e
}

// WithField names the offending field and returns e.
func (e *Error) WithField(path string) *Error { e.Field = path; return e }

// WithRemedy replaces the usual remedy and returns e.
func (e *Error) WithRemedy(remedy string) *Error { e.Remedy = remedy; return e }

// WithRan says whether the action ran and returns e.
func (e *Error) WithRan(r Ran) *Error { e.Ran = r; return e }

// WithRetryAfter sets the wait, marks the error as retryable, and returns e.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	e.RetryAfter, e.Retryable = d, true
	return e
}

// WithCause sets what Unwrap returns and returns e.
func (e *Error) WithCause(err error) *Error { e.cause = err; return e }

// From returns the *Error in err's chain, or makes one: context errors become Cancelled or Timeout, the rest Internal.
// From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return wrap(Internal, "", err)
}

// ReasonOf returns the reason of err, Unspecified for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return Unspecified
	}
	return From(err).Reason
}

// Is reports whether err has one of the reasons.
func Is(err error, reasons ...Reason) bool {
	have := ReasonOf(err)
	for _, r := range reasons {
		if have == r {
			return true
		}
	}
	return false
}

// Invalid is New(InvalidArgument) for a field.
func Invalid(op, field, detail string, args ...any) *Error {
	return New(InvalidArgument, op, detail, args...).WithField(field).WithRan(RanNo)
}
