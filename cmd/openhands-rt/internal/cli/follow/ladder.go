package follow

import (
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// Escalate is the time within which another Ctrl-C is meant to be harder than the one before.
const Escalate = 2 * time.Second

// Ladder turns presses of Ctrl-C into levels of an interrupt. The zero value is ready. Not for concurrent use.
type Ladder struct {
	level agentv1.InterruptLevel
	last  time.Time
}

// Press returns the level of a press at a time: INTERRUPT, then TERMINATE and KILL for presses each within Escalate of the
// one before. A press after KILL stays at KILL and reports enough: the one who presses wants to leave.
func (l *Ladder) Press(now time.Time) (level agentv1.InterruptLevel, enough bool) {
	quick := !l.last.IsZero() && now.Sub(l.last) <= Escalate
	l.last = now
	switch {
	case !quick:
		l.level = agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT
	case l.level == agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL:
		return l.level, true
	default:
		l.level++
	}
	return l.level, false
}
