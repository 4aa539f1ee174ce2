package policy

import "github.com/openhands-rt/openhands-rt/sdk/rterr"

// OnDisconnect is the operator's choice of what becomes of a runtime whose sandbox is gone.
type OnDisconnect string

// The choices.
const (
	// Stay leaves it in ERROR_RUNTIME_DISCONNECTED until somebody decides.
	Stay OnDisconnect = "disconnected"
	// Recreate gives it a new sandbox, one generation later.
	Recreate OnDisconnect = "recreate"
)

// Lost is what to do about a sandbox that does not answer.
type Lost uint8

// The answers.
const (
	LostUnspecified Lost = iota
	// LostAdopt: it may still be there; look for it, and take it up again.
	LostAdopt
	// LostRecreate: it is gone; make a new one.
	LostRecreate
	// LostDisconnect: report ERROR_RUNTIME_DISCONNECTED.
	LostDisconnect
)

// String returns the answer's name.
func (l Lost) String() string {
	switch l {
	case LostAdopt:
		return "adopt"
	case LostRecreate:
		return "recreate"
	case LostDisconnect:
		return "disconnect"
	default:
		return "unspecified"
	}
}

// OnLost says what to do about a sandbox that was lost with err. Only one that is known to be gone is ever replaced: behind an
// address that does not answer, or that something else answers at, the old one may still run actions.
func OnLost(choice OnDisconnect, err error) Lost {
	switch rterr.ReasonOf(err) {
	case rterr.Unspecified:
		return LostUnspecified
	case rterr.SandboxGone:
		if choice == Recreate {
			return LostRecreate
		}
		return LostDisconnect
	case rterr.Integrity:
		return LostDisconnect
	default:
		return LostAdopt
	}
}
