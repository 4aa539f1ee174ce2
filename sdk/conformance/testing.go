package conformance

import (
	"testing"
)

// Test runs every clause against the target, each as a sub-test that -run can select by name. The clauses run one after the
// other. It fails t at once if the plugin cannot be launched or dialled.
func Test(t *testing.T, target Target) {
	t.Helper()
	testSome(t, target, nil)
}

// testSome is Test for the clauses that only names, all if it is empty.
func testSome(t *testing.T, target Target, only []string) {
	t.Helper()
	clauses, err := selected(table(), only)
	if err != nil {
		t.Fatalf("conformance: %v", err)
	}
	s, err := open(t.Context(), target, nil)
	if err != nil {
		t.Fatalf("conformance: %v", err)
	}
	defer s.close()
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			report(t, s.runOne(t.Context(), c))
		})
	}
}

func report(t *testing.T, r Result) {
	t.Helper()
	switch r.Status {
	case Fail:
		t.Errorf("%s", r)
	case Skip:
		t.Skip(r.Detail)
	}
}
