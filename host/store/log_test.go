package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func text(events []Logged) string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = fmt.Sprintf("%d:%s", e.Sequence, e.Data)
	}
	return strings.Join(out, " ")
}

func TestLogReadsInOrder(t *testing.T) {
	s := openStore(t, Bounds{})
	for i, key := range []string{"r-1", "r-2", "r-1", "r-2", "r-1"} {
		if seq, err := s.Events.Append(t.Context(), KeyOf(key), []byte(fmt.Sprint(key, "#", i))); err != nil || seq != uint64(i+1) {
			t.Fatalf("sequence %d, %v", seq, err)
		}
	}
	for _, c := range []struct {
		after  uint64
		limit  int
		tokens []string
		want   string
	}{
		{0, 10, nil, "1:r-1#0 2:r-2#1 3:r-1#2 4:r-2#3 5:r-1#4"},
		{1, 2, nil, "2:r-2#1 3:r-1#2"},
		{1, 10, []string{"r-1"}, "3:r-1#2 5:r-1#4"},
		{5, 10, nil, ""},
		{99, 10, nil, ""},
		{0, 10, []string{"r-3"}, ""},
		{0, 0, nil, ""},
	} {
		if got, err := s.Events.Read(t.Context(), c.after, c.limit, c.tokens...); err != nil || text(got) != c.want {
			t.Errorf("after %d, %d of %q: %q, %v; want %q", c.after, c.limit, c.tokens, text(got), err, c.want)
		}
	}
	if last, err := s.Events.Last(t.Context()); err != nil || last != 5 {
		t.Errorf("last %d, %v", last, err)
	}
}

func TestLogTailGoesOn(t *testing.T) {
	s := openStore(t, Bounds{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	add := func(data string) {
		t.Helper()
		if _, err := s.Events.Append(t.Context(), KeyOf("r-1"), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	add("0")
	add("1")
	var got []Logged
	for e, err := range s.Events.Tail(ctx, 1, "r-1") {
		if err != nil {
			if !rterr.Is(err, rterr.Cancelled) {
				t.Errorf("ended with %v", err)
			}
			break
		}
		got = append(got, e)
		if len(got) == 3 {
			cancel()
			continue
		}
		add(fmt.Sprint(len(got) + 1))
	}
	if text(got) != "2:1 3:2 4:3" {
		t.Errorf("tail: %s", text(got))
	}
}

func TestLogIsBounded(t *testing.T) {
	s := openStore(t, Bounds{EventCount: 10})
	for i := range 30 {
		if _, err := s.Events.Append(t.Context(), KeyOf("r"), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Events.Read(t.Context(), 3, 100)
	if err != nil || len(got) != 10 || got[0].Sequence != 21 {
		t.Errorf("%s, %v", text(got), err)
	}
	if _, err := s.Events.Append(t.Context(), KeyOf("r"), make([]byte, MaxEvent)); err != nil {
		t.Errorf("the largest event: %v", err)
	}
	if _, err := s.Events.Append(t.Context(), KeyOf("r"), make([]byte, MaxEvent+1)); !rterr.Is(err, rterr.LimitExceeded) {
		t.Errorf("a larger one: %v", err)
	}
}
