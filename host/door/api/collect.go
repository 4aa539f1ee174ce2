package api

import (
	"slices"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

// collector keeps the head and the tail of each channel, half of limit bytes each, whatever the channel's length.
type collector struct {
	limit    int
	channels map[agentv1.Channel]*ends
}

// ends are the two ends of a channel. tail is a ring of which at is the oldest byte once it is full.
type ends struct {
	head, tail []byte
	at         int
	omitted    uint64
}

func (c *collector) of(channel agentv1.Channel) *ends {
	if c.channels == nil {
		c.channels = map[agentv1.Channel]*ends{}
	}
	e := c.channels[channel]
	if e == nil {
		e = &ends{}
		c.channels[channel] = e
	}
	return e
}

func (c *collector) add(channel agentv1.Channel, data []byte) {
	e := c.of(channel)
	half := max(c.limit/2, 1)
	if room := half - len(e.head); room > 0 {
		n := min(room, len(data))
		e.head = append(e.head, data[:n]...)
		data = data[n:]
	}
	if over := len(data) - half; over > 0 {
		e.omitted += uint64(len(e.tail)) + uint64(over)
		e.tail, e.at = append(e.tail[:0], data[over:]...), 0
		return
	}
	if room := half - len(e.tail); room > 0 {
		n := min(room, len(data))
		e.tail = append(e.tail, data[:n]...)
		data = data[n:]
	}
	e.omitted += uint64(len(data))
	for len(data) > 0 {
		n := copy(e.tail[e.at:], data)
		e.at = (e.at + n) % len(e.tail)
		data = data[n:]
	}
}

// skip counts bytes that were not sent.
func (c *collector) skip(channel agentv1.Channel, n uint64) {
	e := c.of(channel)
	e.omitted += n + uint64(len(e.tail))
	e.tail, e.at = e.tail[:0], 0
}

// result returns the channels in the order of their numbers. A channel of which nothing is missing has no tail.
func (c *collector) result() []*runtimev1.ChannelOutput {
	var out []*runtimev1.ChannelOutput
	for channel, e := range c.channels {
		tail := append(slices.Clone(e.tail[e.at:]), e.tail[:e.at]...)
		one := &runtimev1.ChannelOutput{Channel: channel, Head: e.head, Tail: tail, Omitted: e.omitted}
		if e.omitted == 0 {
			one.Head, one.Tail = append(e.head, tail...), nil
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b *runtimev1.ChannelOutput) int { return int(a.GetChannel() - b.GetChannel()) })
	return out
}
