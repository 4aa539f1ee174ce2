package follow

import (
	"testing"
	"time"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"pgregory.net/rapid"
)

// However a re-attached stream overlaps, each byte is handed on once and in order.
func TestCursorHandsOnEveryByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "whole")
		c, got := newCursor(nil), []byte(nil)
		for len(got) < len(whole) {
			start := rapid.IntRange(0, len(got)).Draw(t, "start")
			end := rapid.IntRange(start, len(whole)).Draw(t, "end")
			fresh, hole := c.output(&agentv1.Output{Channel: agentv1.Channel_CHANNEL_STDOUT, Offset: uint64(start), Data: whole[start:end]})
			if hole != nil {
				t.Fatalf("a hole where there is none: %v", hole)
			}
			if fresh != nil && fresh.GetOffset() != uint64(len(got)) {
				t.Fatalf("piece at %d, want %d", fresh.GetOffset(), len(got))
			}
			got = append(got, fresh.GetData()...)
		}
		if string(got) != string(whole) {
			t.Fatalf("%q, want %q", got, whole)
		}
	})
}

func TestCursorTellsOfHoles(t *testing.T) {
	c := newCursor([]*agentv1.OutputCursor{{Channel: agentv1.Channel_CHANNEL_PTY, Offset: 10}})
	if _, hole := c.output(&agentv1.Output{Channel: agentv1.Channel_CHANNEL_PTY, Offset: 15, Data: []byte("x")}); hole.GetOffset() != 10 || hole.GetLength() != 5 {
		t.Errorf("hole %v", hole)
	}
	if g := c.gap(&agentv1.Gap{Channel: agentv1.Channel_CHANNEL_PTY, Offset: 12, Length: 8}); g.GetOffset() != 16 || g.GetLength() != 4 {
		t.Errorf("gap %v", g)
	}
	if g := c.gap(&agentv1.Gap{Channel: agentv1.Channel_CHANNEL_PTY, Offset: 0, Length: 20}); g != nil {
		t.Errorf("a gap that is known already: %v", g)
	}
}

func TestLadder(t *testing.T) {
	l, at := Ladder{}, time.Unix(0, 0)
	for i, step := range []struct {
		after  time.Duration
		level  agentv1.InterruptLevel
		enough bool
	}{
		{0, 1, false}, {Escalate, 2, false}, {Escalate + 1, 1, false}, {1, 2, false}, {1, 3, false}, {1, 3, true}, {time.Minute, 1, false},
	} {
		at = at.Add(step.after)
		if level, enough := l.Press(at); level != step.level || enough != step.enough {
			t.Errorf("press %d: %v %v, want %v %v", i, level, enough, step.level, step.enough)
		}
	}
}
