package host

import (
	"testing"

	"github.com/hashicorp/go-hclog"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

func TestEventsAreFoundBySequenceThoughSomeWereNotWritten(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	l := newEventLog(s.Events, hclog.NewNullLogger())
	defer l.close()
	// The hub has counted events that never came here: in front, in the middle, many.
	var sequences []uint64
	for _, n := range []uint64{5, 6, 7, 20, 21, 500, 501, 502, 503, 1000} {
		sequences = append(sequences, n)
		id := "r-even"
		if n%2 == 1 {
			id = "r-odd"
		}
		l.Append(&runtimev1.RuntimeEvent{Sequence: n, RuntimeId: id})
	}
	for after := uint64(0); after <= 1001; after++ {
		var want, even []uint64
		for _, n := range sequences {
			if n > after {
				want = append(want, n)
				if n%2 == 0 {
					even = append(even, n)
				}
			}
		}
		for id, want := range map[string][]uint64{"": want, "r-even": even} {
			list, err := l.ListEvents(t.Context(), id, after, 100)
			if err != nil || len(list) != len(want) {
				t.Fatalf("after %d of %q: %v, %v, want %v", after, id, list, err, want)
			}
			for i, ev := range list {
				if ev.GetSequence() != want[i] {
					t.Fatalf("after %d of %q: %v, want %v", after, id, list, want)
				}
			}
		}
		if after > 30 && after < 490 { // nothing changes here
			after = 490
		}
	}
	if list, err := l.ListEvents(t.Context(), "", 5, 3); err != nil || len(list) != 3 || list[2].GetSequence() != 20 {
		t.Errorf("a limited list: %v, %v", list, err)
	}
}
