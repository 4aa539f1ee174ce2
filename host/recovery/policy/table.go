package policy

import "time"

// Strategy is what is done about a class of error.
type Strategy uint8

// The strategies.
const (
	StrategyUnspecified Strategy = iota
	// Backoff: wait, longer each time, and try again.
	Backoff
	// LongerTimeout: try again at once with more time.
	LongerTimeout
	// RefreshCredential: read the credential again, give it to the backend, and try again.
	RefreshCredential
	// Locate: give it back to the caller, who looks for the sandbox (see OnLost).
	Locate
	// Rollback: no retry; state is rolled back where the backend can.
	Rollback
	// Degrade: no retry; new runtimes go to the next backend, and the operator is told.
	Degrade
	// GiveBack: no retry; the caller gets the error.
	GiveBack
)

// String returns the strategy's name as events carry it.
func (s Strategy) String() string {
	switch s {
	case Backoff:
		return "backoff"
	case LongerTimeout:
		return "longer_timeout"
	case RefreshCredential:
		return "refresh_credential"
	case Locate:
		return "locate"
	case Rollback:
		return "rollback"
	case Degrade:
		return "degrade"
	case GiveBack:
		return "give_back"
	default:
		return "unspecified"
	}
}

// Budget bounds the retries of one class within one operation. A zero Retries means none.
type Budget struct {
	// Retries is the largest number of retries.
	Retries int
	// Elapsed is the longest time from the operation's start to the start of its last retry; zero: no bound.
	Elapsed time.Duration
	// Delay is the wait before the first retry, MaxDelay the longest, Factor what it grows by each time.
	Delay, MaxDelay time.Duration
	Factor          float64
	// Jitter is the share of a delay that is up to chance, from 0 to 1: 0.5 makes 0.5 to 1.5 times the delay.
	Jitter float64
	// TimeoutFactor is what an attempt's timeout grows by, TimeoutCeiling the longest that it becomes.
	TimeoutFactor  float64
	TimeoutCeiling time.Duration
}

// Rule is what the table has for a class.
type Rule struct {
	Strategy Strategy
	Budget   Budget
}

// Table is the rule for each class. A class without a rule is given back.
type Table map[Class]Rule

// MaxAttempts is the most that one operation is ever tried, whatever the budgets of its classes add up to.
const MaxAttempts = 32

// Default returns the table that holds without a config.
func Default() Table {
	return Table{
		Network: {Backoff, Budget{
			Retries: 6, Elapsed: time.Minute, Delay: 100 * time.Millisecond, MaxDelay: 10 * time.Second, Factor: 2, Jitter: 0.5,
		}},
		Timeout: {LongerTimeout, Budget{
			Retries: 3, Elapsed: 10 * time.Minute, TimeoutFactor: 2, TimeoutCeiling: 5 * time.Minute,
		}},
		Authentication: {RefreshCredential, Budget{Retries: 1}},
		SandboxLost:    {Locate, Budget{}},
		Exhausted:      {Degrade, Budget{}},
		Logic:          {Rollback, Budget{}},
		Unknown:        {GiveBack, Budget{}},
		Cancelled:      {GiveBack, Budget{}},
	}
}
