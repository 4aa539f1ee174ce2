package runtime

import (
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// cursor is how far a reader has come in each channel of an action. The zero value starts at 0 everywhere.
type cursor struct {
	next map[agentv1.Channel]uint64
}

func newCursor(from []*agentv1.OutputCursor) *cursor {
	c := &cursor{next: map[agentv1.Channel]uint64{}}
	for _, f := range from {
		c.next[f.GetChannel()] = f.GetOffset()
	}
	return c
}

// advance takes ev into account.
func (c *cursor) advance(ev *agentv1.ActionEvent) {
	if out := ev.GetOutput(); out != nil {
		c.next[out.GetChannel()] = out.GetOffset() + uint64(len(out.GetData()))
	}
	if gap := ev.GetGap(); gap != nil {
		c.next[gap.GetChannel()] = gap.GetOffset() + gap.GetLength()
	}
}

// from is the place to go on from, for Attach.
func (c *cursor) from() []*agentv1.OutputCursor {
	list := make([]*agentv1.OutputCursor, 0, len(c.next))
	for channel, offset := range c.next {
		list = append(list, &agentv1.OutputCursor{Channel: channel, Offset: offset})
	}
	return list
}
