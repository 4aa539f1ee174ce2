package policy_test

import (
	"fmt"
	"testing"

	"github.com/openhands-rt/openhands-rt/host/recovery/policy"
)

// Names are labels of metrics and words of events: each has one of its own.
func TestNamesAreUnique(t *testing.T) {
	check := func(kind string, names []fmt.Stringer) {
		seen := map[string]bool{"unspecified": true}
		for _, n := range names {
			if seen[n.String()] {
				t.Errorf("%s %q is missing or taken", kind, n)
			}
			seen[n.String()] = true
		}
	}
	var classes, strategies, answers []fmt.Stringer
	for _, c := range policy.Classes() {
		classes = append(classes, c)
	}
	for s := policy.Backoff; s <= policy.GiveBack; s++ {
		strategies = append(strategies, s)
	}
	for l := policy.LostAdopt; l <= policy.LostDisconnect; l++ {
		answers = append(answers, l)
	}
	check("class", classes)
	check("strategy", strategies)
	check("answer", answers)
	for _, c := range policy.Classes() {
		if _, ok := policy.Default()[c]; !ok {
			t.Errorf("%s has no rule", c)
		}
	}
}
