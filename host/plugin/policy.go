package plugin

import "time"

// Policy says how often and how fast a plugin is started again. It is data; next is all there is to its behaviour.
type Policy struct {
	// Base and Max bound the pause before a restart: full jitter over Base doubled with each failure in the window. Defaults
	// 0.5 s and 60 s.
	Base, Max time.Duration
	// Budget failures within Window are answered by a restart, one more by quarantine. Default 5 in 10 minutes; negative means no
	// quarantine, the default for addresses: whoever runs what is there restarts it.
	Budget int
	Window time.Duration
}

func (p Policy) withDefaults(address bool) Policy {
	p.Base = orDefault(p.Base, 500*time.Millisecond)
	p.Max = orDefault(p.Max, 60*time.Second)
	p.Window = orDefault(p.Window, 10*time.Minute)
	budget := 5
	if address {
		budget = -1
	}
	p.Budget = orDefault(p.Budget, budget)
	return p
}

// verdict is what follows a failure.
type verdict struct {
	quarantine bool
	delay      time.Duration
}

// next judges a failure at now after the earlier ones, oldest first, and returns the failures to remember. random is in [0, 1).
func (p Policy) next(earlier []time.Time, now time.Time, random float64) (verdict, []time.Time) {
	var recent []time.Time
	for _, t := range earlier {
		if now.Sub(t) < p.Window {
			recent = append(recent, t)
		}
	}
	recent = append(recent, now)
	if p.Budget >= 0 && len(recent) > p.Budget {
		return verdict{quarantine: true}, recent
	}
	if len(recent) > maxRemembered {
		recent = recent[len(recent)-maxRemembered:]
	}
	return verdict{delay: time.Duration(random * float64(p.ceiling(len(recent))))}, recent
}

// maxRemembered bounds the history where there is no budget; more would not change the pause.
const maxRemembered = 32

// ceiling is the longest pause after the nth failure.
func (p Policy) ceiling(n int) time.Duration {
	d := p.Base
	for ; n > 1 && d < p.Max; n-- {
		d *= 2
	}
	return min(d, p.Max)
}
