package follow

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/retry"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
)

// The bounds of input, in bytes and pieces: what is read at once, what is sent at once, and how much may be read ahead.
const (
	readPiece = 64 << 10
	sendPiece = 512 << 10
	readAhead = sendPiece / readPiece
)

// Input carries a reader's bytes to the input of an action.
type Input struct {
	API                 runtimev1connect.ActionServiceClient
	RuntimeID, ActionID string
	// Source is read to its end, in a goroutine that may outlive Run by one Read: the owner cancels that, then calls Wait.
	Source io.Reader
	// Transient and Reconnect are as in Stream.
	Transient func(error) bool
	Reconnect time.Duration

	reader sync.WaitGroup
}

// piece is a read: data, then perhaps the end of the source.
type piece struct {
	data []byte
	err  error
}

// Run sends all of Source, in order and each byte once, then closes the input. It blocks while the command does not read: at
// most 1 MiB is read ahead. Small reads are sent at once, and those that come in during a send go together with the next.
// It returns the number of bytes that were taken, and nil, ctx's error, Source's error, or the API's refusal.
func (in *Input) Run(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pieces, free := make(chan piece, readAhead), make(chan []byte, readAhead)
	in.reader.Go(func() { in.read(ctx, pieces, free) })
	var offset uint64
	batch := make([]byte, 0, sendPiece)
	for {
		var err error
		if batch, err = collect(ctx, batch[:0], pieces, free); err != nil && !errors.Is(err, io.EOF) {
			return offset, err
		}
		end := err != nil
		if offset, err = in.send(ctx, offset, batch, end); err != nil || end {
			return offset, err
		}
	}
}

// Wait blocks until nothing reads Source any more.
func (in *Input) Wait() { in.reader.Wait() }

// read feeds pieces from Source until its end or ctx's, then closes the channel.
func (in *Input) read(ctx context.Context, pieces chan<- piece, free <-chan []byte) {
	defer close(pieces)
	for {
		var buf []byte
		select {
		case buf = <-free:
		default:
			buf = make([]byte, readPiece)
		}
		n, err := in.Source.Read(buf)
		select {
		case pieces <- piece{buf[:n], err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// collect waits for a piece and adds those that are there already. io.EOF comes with the last bytes.
func collect(ctx context.Context, batch []byte, pieces <-chan piece, free chan<- []byte) ([]byte, error) {
	for first := true; len(batch)+readPiece <= sendPiece; first = false {
		p, err := take(ctx, pieces, first)
		if err != nil {
			return nil, err
		}
		if p == nil {
			return batch, nil
		}
		batch = append(batch, p.data...)
		if p.err != nil {
			return batch, p.err
		}
		recycle(free, p.data)
	}
	return batch, nil
}

// take returns the next piece; if it need not block, nil when none is there yet. The reader closes the channel only after an
// error that was passed on, or because ctx has ended.
func take(ctx context.Context, pieces <-chan piece, block bool) (*piece, error) {
	var p piece
	var open bool
	if block {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case p, open = <-pieces:
		}
	} else {
		select {
		case p, open = <-pieces:
		default:
			return nil, nil //nolint:nilnil // nothing is there yet, which is no error
		}
	}
	if !open {
		return nil, context.Cause(ctx)
	}
	return &p, nil
}

func recycle(free chan<- []byte, buf []byte) {
	select {
	case free <- buf[:cap(buf)]:
	default:
	}
}

// send sends data until all of it is taken, over cut connections too, and returns the next offset.
func (in *Input) send(ctx context.Context, offset uint64, data []byte, end bool) (uint64, error) {
	for {
		next, err := in.once(ctx, offset, data, end)
		switch {
		case rterr.Is(err, rterr.Timeout) && ctx.Err() == nil:
			continue // the command has not read for long: ask again
		case err != nil:
			return offset, err
		case next < offset || next > offset+uint64(len(data)):
			return offset, rterr.New(rterr.Integrity, "send input", "the daemon expects offset %d, %d to %d were sent", next, offset, offset+uint64(len(data)))
		}
		data, offset = data[next-offset:], next
		if len(data) == 0 {
			return offset, nil
		}
	}
}

func (in *Input) once(ctx context.Context, offset uint64, data []byte, end bool) (uint64, error) {
	next, err := retry.Do(ctx, in.Reconnect, in.Transient, func() (uint64, error) {
		resp, err := in.API.SendInput(ctx, connect.NewRequest(&runtimev1.SendInputRequest{
			RuntimeId: in.RuntimeID, ActionId: in.ActionID, Offset: offset, Data: data, Close: end,
		}))
		if err != nil {
			return 0, err
		}
		return resp.Msg.GetNextOffset(), nil
	})
	if err != nil && ctx.Err() != nil {
		return 0, err
	}
	return next, rthttp.FromConnect(err)
}
