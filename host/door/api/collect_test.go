package api

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

func TestCollectorKeepsBothEndsOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(2, 40).Draw(t, "limit")
		pieces := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 30)).Draw(t, "pieces")
		c := collector{limit: limit}
		var all []byte
		for _, p := range pieces {
			c.add(agentv1.Channel_CHANNEL_STDOUT, p)
			all = append(all, p...)
		}
		out := c.result()
		if len(pieces) == 0 {
			if len(out) != 0 {
				t.Fatal("output out of nothing")
			}
			return
		}
		o := out[0]
		if got := len(o.GetHead()) + len(o.GetTail()) + int(o.GetOmitted()); got != len(all) {
			t.Fatalf("%d bytes are accounted for, %d were written", got, len(all))
		}
		if !bytes.HasPrefix(all, o.GetHead()) || !bytes.HasSuffix(all, o.GetTail()) {
			t.Fatalf("head %q or tail %q is not that of %q", o.GetHead(), o.GetTail(), all)
		}
		if len(o.GetHead())+len(o.GetTail()) > limit {
			t.Fatalf("%d bytes are kept of at most %d", len(o.GetHead())+len(o.GetTail()), limit)
		}
		if half := limit / 2; o.GetOmitted() > 0 && len(o.GetTail()) < half {
			t.Fatalf("the tail has %d bytes, %d fit", len(o.GetTail()), half)
		}
	})
}

func TestCollectorCountsGaps(t *testing.T) {
	c := collector{limit: 8}
	c.add(agentv1.Channel_CHANNEL_PTY, []byte("abcdefgh"))
	c.skip(agentv1.Channel_CHANNEL_PTY, 100)
	c.add(agentv1.Channel_CHANNEL_PTY, []byte("xyz"))
	o := c.result()[0]
	if string(o.GetHead()) != "abcd" || string(o.GetTail()) != "xyz" || o.GetOmitted() != 104 {
		t.Errorf("%v", o)
	}
}
