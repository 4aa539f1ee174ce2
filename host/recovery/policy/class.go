// Package policy decides what to do about a failed operation: class of error, strategy, budget. It is pure: the table is data,
// time and chance come in as values, and nothing is called. host/recovery carries the decisions out.
//
// It imports the standard library and sdk/rterr alone.
package policy

import "github.com/openhands-rt/openhands-rt/sdk/rterr"

// Class is the kind of trouble that an error is, for the choice of a strategy.
type Class uint8

// The classes.
const (
	ClassUnspecified Class = iota
	// Network: the way to the other side, or the other side for a moment.
	Network
	// Timeout: no answer in time.
	Timeout
	// Authentication: the credential is not accepted.
	Authentication
	// SandboxLost: the sandbox is gone or does not answer.
	SandboxLost
	// Exhausted: the backend has nothing left to give (quota).
	Exhausted
	// Logic: the request itself; the same request fails again.
	Logic
	// Unknown: whether it ran cannot be known; nothing is run again.
	Unknown
	// Cancelled: the caller does not want it any more.
	Cancelled

	classCount
)

// String returns the class's name as events and metrics carry it.
func (c Class) String() string {
	switch c {
	case Network:
		return "network"
	case Timeout:
		return "timeout"
	case Authentication:
		return "authentication"
	case SandboxLost:
		return "sandbox_lost"
	case Exhausted:
		return "exhausted"
	case Logic:
		return "logic"
	case Unknown:
		return "outcome_unknown"
	case Cancelled:
		return "cancelled"
	default:
		return "unspecified"
	}
}

// Classes returns every class, in the order of their numbers.
func Classes() []Class {
	all := make([]Class, 0, classCount-1)
	for c := Network; c < classCount; c++ {
		all = append(all, c)
	}
	return all
}

// Classify returns the class of err, ClassUnspecified for nil. The reason decides; an error of a passing kind that says of
// itself that a retry cannot help is Logic, and a provider's error that says it can is Network.
func Classify(err error) Class {
	if err == nil {
		return ClassUnspecified
	}
	e := rterr.From(err)
	class := classOf(e.Reason)
	switch {
	case class == Network && !e.Retryable:
		return Logic
	case e.Reason == rterr.Provider && e.Retryable:
		return Network
	default:
		return class
	}
}

func classOf(r rterr.Reason) Class {
	switch r {
	case rterr.Network, rterr.Unavailable, rterr.PluginUnavailable, rterr.RateLimited:
		return Network
	case rterr.Timeout:
		return Timeout
	case rterr.Unauthenticated:
		return Authentication
	case rterr.SandboxGone, rterr.SandboxUnreachable:
		return SandboxLost
	case rterr.QuotaExceeded:
		return Exhausted
	case rterr.OutcomeUnknown:
		return Unknown
	case rterr.Cancelled:
		return Cancelled
	default:
		// A limit of our own, a paused sandbox, a bad argument: the caller has to do something first.
		return Logic
	}
}
