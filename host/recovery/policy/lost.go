package policy

import "github.com/openhands-rt/openhands-rt/sdk/rterr"

// OnDisconnect is the operator's choice of what becomes of a runtime whose sandbox is gone.
type OnDisconnect string

// The choices.
const (
	// Stay leaves it in ERROR_RUNTIME_DISCONNECTED until somebody decides.
	Stay OnDisconnect = "disconnected"
	// RecreateSandbox gives it a new sandbox, one generation later.
	RecreateSandbox OnDisconnect = "recreate"
)

// Lost is what to do about a sandbox that does not answer.
type Lost uint8

// The answers.
const (
	LostUnspecified Lost = iota
	// Adopt: it may still be there; look for it, and take it up again.
	Adopt
	// Recreate: it is gone; make a new one.
	Recreate
	// Disconnect: report ERROR_RUNTIME_DISCONNECTED.
	Disconnect
)

// String returns the answer's name.
func (l Lost) String() string {
	switch l {
	case Adopt:
		return "adopt"
	case Recreate:
		return "recreate"
	case Disconnect:
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
		if choice == RecreateSandbox {
			return Recreate
		}
		return Disconnect
	case rterr.Integrity:
		return Disconnect
	default:
		return Adopt
	}
}
