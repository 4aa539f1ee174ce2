package conformance

import (
	"fmt"
	"strings"
	"time"
)

// Status is how a clause ended.
type Status string

// The statuses of a result.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	// Skip: the clause is about something that the backend need not have, and does not have.
	Skip Status = "skip"
)

// Result is what became of one clause.
type Result struct {
	// Clause is the clause's stable name, Rule its statement.
	Clause string `json:"clause"`
	Rule   string `json:"rule"`
	Status Status `json:"status"`
	// Detail says what was seen: for a failure what differed and in which step, for a skip what is absent.
	Detail string `json:"detail,omitempty"`
	// Took is the time from the clause's start to its end, in nanoseconds where it is printed as a number.
	Took time.Duration `json:"took"`
}

// String returns the result as lines for people: status, name and time, and for all but a pass the rule and what was seen.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-4s %s (%.2fs)", strings.ToUpper(string(r.Status)), r.Clause, r.Took.Seconds())
	switch {
	case r.Status == Skip:
		fmt.Fprintf(&b, ": %s", r.Detail)
	case r.Status == Fail:
		fmt.Fprintf(&b, "\n     rule: %s\n     seen: %s", r.Rule, strings.ReplaceAll(r.Detail, "\n", "\n           "))
	}
	return b.String()
}

// Failed returns the results that are failures, in their order.
func Failed(results []Result) []Result {
	var failed []Result
	for _, r := range results {
		if r.Status == Fail {
			failed = append(failed, r)
		}
	}
	return failed
}
