package store

import (
	"fmt"
	"testing"
)

func TestIndexKnowsWhatABucketLacks(t *testing.T) {
	s := openStore(t, Bounds{})
	for i := range 10 {
		if err := s.Actions.PutNow(t.Context(), Action{ID: fmt.Sprint(i), RuntimeID: "r"}); err != nil {
			t.Fatal(err)
		}
	}
	x := newIndex()
	x.add("added.before")
	if x.lacks("r.1") || x.lacks("never") {
		t.Error("it says what it has not read")
	}
	if err := x.read(t.Context(), s.Actions.bucket.kv); err != nil {
		t.Fatal(err)
	}
	x.add("added.after")
	for _, there := range []Key{actionKey("r", "1"), actionKey("r", "9"), "added.before", "added.after"} {
		if x.lacks(there) {
			t.Errorf("it says that %s is not there", there)
		}
	}
	if !x.lacks(actionKey("r", "10")) || !x.lacks("never") {
		t.Error("it does not say what is not there")
	}
	if (*index)(nil).lacks("never") {
		t.Error("no index says that something is not there")
	}
}

func TestIndexThatHasGrownIsReadAnew(t *testing.T) {
	x := newIndex()
	<-x.stale
	x.keys = map[uint64]struct{}{}
	for i := range indexLimit - 1 {
		x.keys[uint64(i)] = struct{}{} //nolint:gosec // a small count
	}
	x.add("one")
	if x.add("two"); x.lacks("never") || len(x.stale) != 1 {
		t.Errorf("it knows %d keys, and has to be read %d times", len(x.keys), len(x.stale))
	}
}

func TestIndexEndsWithItsBucket(t *testing.T) {
	s := openStore(t, Bounds{})
	calls := 0
	err := eachKey(t.Context(), s.Actions.bucket.kv, func(string) bool { calls++; return true })
	if err != nil || calls != 0 {
		t.Errorf("%d keys of an empty bucket, %v", calls, err)
	}
}
