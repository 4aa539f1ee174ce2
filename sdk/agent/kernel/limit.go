package kernel

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
)

// What one message of a kernel may weigh. The launcher (python/launch.py) keeps below it: what is larger comes from code that
// speaks to the socket itself, and must not take the agent's memory.
const (
	maxMessage = 16 << 20
	maxFrames  = 64
)

// The parts of ZMTP 3.0 that are needed to see how large a message will be.
const (
	greetingSize = 64
	flagMore     = 1
	flagLong     = 2
)

// boundedConn is a connection to a ZeroMQ socket whose messages are bounded: the library makes room for whatever size a frame
// claims to have. It follows the frames as they are read and fails before one that goes beyond.
type boundedConn struct {
	net.Conn
	buffered *bufio.Reader

	greeting int
	// head is what has been read of a frame's head: flags, then 1 or 8 bytes of size.
	head []byte
	// body is what is left of the frame; size and frames are those of the message so far.
	body, size uint64
	frames     int
}

func newBoundedConn(c net.Conn) *boundedConn {
	return &boundedConn{Conn: c, buffered: bufio.NewReaderSize(c, 32<<10), greeting: greetingSize, head: make([]byte, 0, 9)}
}

func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.buffered.Read(p)
	if tooLarge := c.follow(p[:n]); tooLarge != nil {
		return 0, tooLarge
	}
	return n, err
}

func (c *boundedConn) follow(p []byte) error {
	skip := min(len(p), c.greeting)
	c.greeting -= skip
	p = p[skip:]
	for len(p) > 0 {
		if c.body > 0 {
			part := min(uint64(len(p)), c.body)
			c.body -= part
			p = p[part:]
			continue
		}
		c.head = append(c.head, p[0])
		p = p[1:]
		if err := c.begin(); err != nil {
			return err
		}
	}
	return nil
}

// begin begins a frame once its head is complete.
func (c *boundedConn) begin() error {
	flags := c.head[0]
	var size uint64
	switch {
	case flags&flagLong == 0 && len(c.head) == 2:
		size = uint64(c.head[1])
	case len(c.head) == 9:
		size = binary.BigEndian.Uint64(c.head[1:])
	default:
		return nil
	}
	c.head = c.head[:0]
	c.body = size
	c.frames++
	c.size += min(size, maxMessage+1) // So that no sum can overflow.
	if c.size > maxMessage || c.frames > maxFrames {
		return fmt.Errorf("a message of more than %d bytes or %d frames", maxMessage, maxFrames)
	}
	if flags&flagMore == 0 {
		c.size, c.frames = 0, 0
	}
	return nil
}
