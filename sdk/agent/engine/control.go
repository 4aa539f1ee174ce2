package engine

import (
	"context"
	"math"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Interrupt signals the whole tree of an action and returns at once; a queued action is withdrawn. signalled is false if the
// action is done. NotFound, with ran no, for an unknown id. UNSPECIFIED means INTERRUPT.
func (e *Engine) Interrupt(_ context.Context, id string, level agentv1.InterruptLevel) (signalled bool, err error) {
	const op = "interrupt action"
	if level == agentv1.InterruptLevel_INTERRUPT_LEVEL_UNSPECIFIED {
		level = agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT
	}
	if level < 0 || level > agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL {
		return false, rterr.Invalid(op, "level", "%d is none", level)
	}
	l, err := e.find(op, id)
	if err != nil {
		return false, err
	}
	if l.by == nil || l.snapshot().done {
		return false, nil
	}
	signalled, err = l.by.interrupt(l, level)
	return signalled, rterr.Wrap(rterr.Internal, op, err)
}

// Input writes a piece of the input of a running action and returns the offset that is expected next. It blocks while 1 MiB is
// not read, until ctx ends. A piece that was taken before is skipped. InvalidArgument for a piece beyond the end, or larger than
// 1 MiB; IllegalState if the action takes no input, or no more; NotFound for an unknown id.
func (e *Engine) Input(ctx context.Context, req *agentv1.InputRequest) (next uint64, err error) {
	const op = "write input"
	if len(req.GetData()) > maxInput {
		return 0, rterr.Invalid(op, "data", "has %d bytes, at most %d are taken", len(req.GetData()), maxInput)
	}
	l, err := e.find(op, req.GetActionId())
	if err != nil {
		return 0, err
	}
	if l.input == nil {
		return 0, rterr.New(rterr.IllegalState, op, "the action is done, or takes no input")
	}
	next, err = l.input.take(ctx, req.GetOffset(), req.GetData(), req.GetClose())
	return next, rterr.Wrap(rterr.Internal, op, err)
}

// Resize sets the size of a running action's terminal. A request with a sequence number that is not larger than the last one's
// is ignored. IllegalState if the action has no terminal, or is done; NotFound for an unknown id.
func (e *Engine) Resize(req *agentv1.ResizeRequest) error {
	const op = "resize terminal"
	for field, v := range map[string]uint32{"rows": req.GetRows(), "cols": req.GetCols()} {
		if v == 0 || v > math.MaxUint16 {
			return rterr.Invalid(op, field, "must be 1 to 65535")
		}
	}
	l, err := e.find(op, req.GetActionId())
	if err != nil {
		return err
	}
	if l.by == nil || l.snapshot().done {
		return rterr.New(rterr.IllegalState, op, "the action is done")
	}
	l.mu.Lock()
	old := l.resized && req.GetSequence() <= l.sequence
	if !old {
		l.resized, l.sequence = true, req.GetSequence()
	}
	l.mu.Unlock()
	if old {
		return nil
	}
	return rterr.Wrap(rterr.Internal, op, l.by.resize(l, uint16(req.GetRows()), uint16(req.GetCols())))
}
