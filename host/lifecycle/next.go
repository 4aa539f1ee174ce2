package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// EffectKind is what a transition asks of whoever runs the machine.
type EffectKind uint8

// The effects, in the order in which Next returns them.
const (
	EffectUnspecified EffectKind = iota
	// DisarmLimit: the time limit of the status that was left no longer counts.
	DisarmLimit
	// ArmLimit: if nothing else happens within Effect.Limit, the event Failed is due.
	ArmLimit
	// RefuseActions: no action starts from now on. Those that run go on; those that wait keep their place.
	RefuseActions
	// WithdrawActions: actions that wait for their turn are answered as never run.
	WithdrawActions
	// AdmitActions: actions may start from now on.
	AdmitActions
	// Notify: tell subscribers that the status changed from Effect.From to Effect.To.
	Notify
)

// String returns the effect's name.
func (k EffectKind) String() string {
	switch k {
	case DisarmLimit:
		return "disarm limit"
	case ArmLimit:
		return "arm limit"
	case RefuseActions:
		return "refuse actions"
	case WithdrawActions:
		return "withdraw actions"
	case AdmitActions:
		return "admit actions"
	case Notify:
		return "notify"
	default:
		return "unspecified"
	}
}

// Effect is one thing to do after a transition.
type Effect struct {
	Kind EffectKind
	// Limit is set for ArmLimit: the default of the status, which a config may replace.
	Limit time.Duration
	// From and To are set for Notify.
	From, To Status
}

// String returns the effect for traces: "arm limit 2m0s", "notify STOPPED -> STARTING_RUNTIME".
func (e Effect) String() string {
	switch e.Kind {
	case ArmLimit:
		return fmt.Sprintf("%s %s", e.Kind, e.Limit)
	case Notify:
		return fmt.Sprintf("%s %s -> %s", e.Kind, e.From, e.To)
	default:
		return e.Kind.String()
	}
}

// Next returns the status that event leads to from status, and what is to be done then, in that order. An event that changes
// nothing (close when stopped, failed in error, connection lost when disconnected) has no effects: above all it does not arm
// the limit again, so that repeating it cannot put off the end. An illegal event returns status itself and an error of
// rterr.IllegalState that names both.
func Next(status Status, event Event) (Status, []Effect, error) {
	to, ok := target(status, event)
	if !ok {
		return status, nil, illegal(status, event)
	}
	if to == status {
		return status, nil, nil
	}
	return to, effects(status, to), nil
}

func effects(from, to Status) []Effect {
	var out []Effect
	if Limit(from) > 0 {
		out = append(out, Effect{Kind: DisarmLimit})
	}
	if d := Limit(to); d > 0 {
		out = append(out, Effect{Kind: ArmLimit, Limit: d})
	}
	if from.AdmitsActions() && !to.AdmitsActions() {
		out = append(out, Effect{Kind: RefuseActions})
	}
	if factsOf(to).withdraws && !factsOf(from).withdraws {
		out = append(out, Effect{Kind: WithdrawActions})
	}
	if to.AdmitsActions() && !from.AdmitsActions() {
		out = append(out, Effect{Kind: AdmitActions})
	}
	return append(out, Effect{Kind: Notify, From: from, To: to})
}

func illegal(status Status, event Event) error {
	return rterr.New(rterr.IllegalState, "", "event %q is not allowed in status %s", event, status).
		WithRan(rterr.RanNo).
		With("status", status.String()).
		With("event", event.String()).
		With("allowed", names(Allowed(status)))
}

func names(events []Event) string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = e.String()
	}
	return strings.Join(out, ", ")
}
