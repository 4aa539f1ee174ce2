package follow

import (
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// cursor is how far each channel has been handed on. It makes of overlapping pieces, as a re-attached stream may bring them,
// every byte exactly once. The zero value is not ready: use newCursor.
type cursor map[agentv1.Channel]uint64

func newCursor(from []*agentv1.OutputCursor) cursor {
	c := cursor{}
	for _, f := range from {
		c[f.GetChannel()] = f.GetOffset()
	}
	return c
}

// from is the place to go on from.
func (c cursor) from() []*agentv1.OutputCursor {
	list := make([]*agentv1.OutputCursor, 0, len(c))
	for _, channel := range []agentv1.Channel{agentv1.Channel_CHANNEL_STDOUT, agentv1.Channel_CHANNEL_STDERR, agentv1.Channel_CHANNEL_PTY} {
		if offset, ok := c[channel]; ok {
			list = append(list, &agentv1.OutputCursor{Channel: channel, Offset: offset})
		}
	}
	return list
}

// output takes a piece in and returns what of it is new, and the hole before it, which no gap had announced.
func (c cursor) output(o *agentv1.Output) (fresh *agentv1.Output, hole *agentv1.Gap) {
	next, end := c[o.GetChannel()], o.GetOffset()+uint64(len(o.GetData()))
	if end <= next {
		return nil, nil
	}
	c[o.GetChannel()] = end
	switch {
	case o.GetOffset() < next:
		return &agentv1.Output{Channel: o.GetChannel(), Offset: next, Data: o.GetData()[next-o.GetOffset():]}, nil
	case o.GetOffset() > next:
		return o, &agentv1.Gap{Channel: o.GetChannel(), Offset: next, Length: o.GetOffset() - next}
	default:
		return o, nil
	}
}

// gap takes a gap in and returns what of it is new, nil if nothing is.
func (c cursor) gap(g *agentv1.Gap) *agentv1.Gap {
	next, end := c[g.GetChannel()], g.GetOffset()+g.GetLength()
	if end <= next {
		return nil
	}
	c[g.GetChannel()] = end
	return &agentv1.Gap{Channel: g.GetChannel(), Offset: next, Length: end - next}
}
