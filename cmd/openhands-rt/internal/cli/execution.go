package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/daemon"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/follow"
	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/terminal"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// execution is one action that the command starts, or attaches to, and stays with.
type execution struct {
	a         *app
	d         *daemon.Daemon
	runtimeID string
	actionID  string
	// action is nil to attach.
	action    *agentv1.Action
	from      []*agentv1.OutputCursor
	reconnect time.Duration
	// stdin forwards the input; tty makes it a terminal's, with detach by keys if mayDetach.
	stdin, tty, mayDetach bool
	// interrupts: Ctrl-C goes to the action; otherwise it leaves it.
	interrupts bool

	ctx     context.Context // of run, for what events start
	out     *output
	leave   context.CancelCauseFunc
	workers sync.WaitGroup

	mu       sync.Mutex
	ladder   follow.Ladder
	recorded bool
	pending  agentv1.InterruptLevel
	cut      bool
	told     bool
	raw      bool
	resizes  uint64
}

// The causes for which the command leaves an action that goes on.
var (
	errDetached = errors.New("detached")
	errLeft     = errors.New("left by Ctrl-C")
)

// run follows the action to its end and returns the exit code. The error is one of ours; the action may go on then.
func (x *execution) run(ctx context.Context) (int, error) {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	x.ctx, x.leave = ctx, leave
	x.out = &output{x: x}
	defer x.out.close()
	if x.tty {
		restore, err := terminal.Raw(x.a.env.In)
		if err != nil {
			return 0, rterr.Wrap(rterr.InvalidArgument, "prepare the terminal", err)
		}
		x.raw = true
		defer restore()
	}
	in, err := x.input()
	if err != nil {
		return 0, err
	}
	defer x.a.handle(func(sig os.Signal) { x.signal(ctx, sig) })()
	stream := &follow.Stream{
		API: x.d.Actions, RuntimeID: x.runtimeID, ActionID: x.actionID, Action: x.action, From: x.from,
		Transient: daemon.Transient, Reconnect: x.reconnect,
		OnRecord: func(r *agentv1.ActionRecord) { x.began(ctx, r, in) },
		OnEvent:  x.out.event, OnCut: x.onCut, OnBack: func() { x.setCut(false) },
	}
	obs, err := stream.Run(ctx)
	leave(nil)
	in.Cancel()
	x.workers.Wait()
	if err := in.Close(); err != nil {
		return 0, rterr.Wrap(rterr.Internal, "close the input", err)
	}
	if err != nil {
		return x.left(err)
	}
	return x.out.code(obs)
}

// source is the input that an action reads; the zero value has none.
type source struct{ *terminal.Reader }

// Cancel ends the reading.
func (s source) Cancel() {
	if s.Reader != nil {
		s.Reader.Cancel()
	}
}

// Close gives up what the reader holds.
func (s source) Close() error {
	if s.Reader == nil {
		return nil
	}
	return s.Reader.Close()
}

func (x *execution) input() (source, error) {
	if !x.stdin && !x.tty {
		return source{}, nil
	}
	r, err := terminal.NewReader(x.a.env.In)
	return source{r}, rterr.Wrap(rterr.Internal, "open the input", err)
}

// began is called once the daemon has the action: only now can input and interrupts reach it.
func (x *execution) began(ctx context.Context, r *agentv1.ActionRecord, in source) {
	x.mu.Lock()
	x.recorded = true
	pending := x.pending
	x.mu.Unlock()
	if r.GetState() == agentv1.ActionState_ACTION_STATE_DONE {
		return
	}
	if pending != agentv1.InterruptLevel_INTERRUPT_LEVEL_UNSPECIFIED {
		x.interrupt(ctx, pending)
	}
	if x.tty {
		x.resize(ctx)
	}
	if in.Reader != nil {
		x.workers.Go(func() { x.pump(ctx, in) })
	}
}

func (x *execution) pump(ctx context.Context, in source) {
	input := &follow.Input{
		API: x.d.Actions, RuntimeID: x.runtimeID, ActionID: x.actionID, Source: in,
		Transient: daemon.Transient, Reconnect: x.reconnect,
	}
	if x.tty && x.mayDetach {
		input.Source = &terminal.Detach{Source: in, OnDetach: func() { x.leave(errDetached) }}
	}
	defer input.Wait()
	n, err := input.Run(ctx)
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, terminal.ErrCancelled):
	case rterr.Is(err, rterr.IllegalState, rterr.NotFound, rterr.ActionConflict):
		// The command has ended or closed its input: as with a pipe, the rest has no reader.
	default:
		x.note("input stopped after %d bytes: %v", n, err)
	}
}

// signal is what the command does with a signal while it follows the action.
func (x *execution) signal(ctx context.Context, sig os.Signal) {
	switch {
	case sig == syscall.SIGWINCH:
		if x.tty {
			x.resize(ctx)
		}
	case sig == syscall.SIGINT && x.interrupts:
		x.press(ctx)
	case sig == syscall.SIGINT:
		x.leave(errLeft)
	case sig != syscall.SIGPIPE:
		x.a.end(sig)
	}
}

// press is one Ctrl-C.
func (x *execution) press(ctx context.Context) {
	x.mu.Lock()
	level, enough := x.ladder.Press(x.a.env.Now())
	cut, recorded := x.cut, x.recorded
	if !recorded {
		enough = enough || x.pending != agentv1.InterruptLevel_INTERRUPT_LEVEL_UNSPECIFIED
		x.pending = level
	}
	x.mu.Unlock()
	switch {
	case enough, cut:
		x.leave(errLeft)
	case recorded:
		x.interrupt(ctx, level)
	}
}

// interrupt sends an interrupt in the background; the stream tells what it did.
func (x *execution) interrupt(ctx context.Context, level agentv1.InterruptLevel) {
	x.workers.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, interruptWithin)
		defer cancel()
		_, err := x.d.Actions.InterruptAction(ctx, connect.NewRequest(&runtimev1.InterruptActionRequest{
			RuntimeId: x.runtimeID, ActionId: x.actionID, Level: level,
		}))
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			x.note("%v", x.d.Explain("interrupt action "+x.actionID, err))
		}
	})
}

func (x *execution) resize(ctx context.Context) {
	rows, cols := terminal.Size(x.a.env.In)
	x.mu.Lock()
	recorded := x.recorded
	x.resizes++
	sequence := x.resizes
	x.mu.Unlock()
	if !recorded {
		return
	}
	x.workers.Go(func() {
		// A size that did not arrive is not worth a word in the middle of a screen: the next one corrects it.
		_, _ = x.d.Actions.ResizeTerminal(ctx, connect.NewRequest(&runtimev1.ResizeTerminalRequest{
			RuntimeId: x.runtimeID, ActionId: x.actionID, Rows: uint32(rows), Cols: uint32(cols), Sequence: sequence,
		}))
	})
}

func (x *execution) onCut(error) {
	x.setCut(true)
	x.mu.Lock()
	told := x.told
	x.told = true
	x.mu.Unlock()
	if !told && x.reconnect > 0 {
		x.note("the connection to the daemon is lost; the action goes on, trying to re-attach for %s", x.reconnect)
	}
}

func (x *execution) setCut(cut bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cut = cut
}

// note writes a line to the error output, also while the terminal is raw.
func (x *execution) note(format string, args ...any) {
	end := "\n"
	if x.raw {
		end = "\r\n"
	}
	fmt.Fprintf(x.a.env.Err, "openhands-rt: "+format+end, args...)
}

// left is the end of a command whose action may go on: detached, given up, or refused.
func (x *execution) left(err error) (int, error) {
	attach := "openhands-rt actions attach " + x.actionID
	switch {
	case errors.Is(err, errDetached):
		x.note("detached; go on with `%s`", attach)
		return 0, nil
	case errors.Is(err, errLeft):
		x.note("left action %s; go on with `%s`, or end it with `openhands-rt actions interrupt --level kill %s`", x.actionID, attach, x.actionID)
		return codeSignal + int(syscall.SIGINT), nil
	case errors.As(err, &signalled{}):
		return 0, err
	case !daemon.Transient(err):
		return 0, conflictHint(x.d.Explain("run action "+x.actionID, err), x.actionID)
	}
	gone := rterr.From(x.d.Explain("follow action "+x.actionID, err))
	if x.recorded {
		gone = gone.WithRan(rterr.RanYes).WithRemedy("it goes on without this command; when the daemon is back: " + attach)
	} else {
		gone = gone.WithRan(rterr.RanUnknown).WithRemedy("`openhands-rt actions show " + x.actionID + "` tells whether it began; if so: " + attach)
	}
	return 0, &lostError{gone}
}

// conflictHint says how to get at an action that was started in another way: with other arguments, or with --detach, which takes
// no input where a later command would.
func conflictHint(err error, id string) error {
	if !rterr.Is(err, rterr.ActionConflict) {
		return err
	}
	e := *rterr.From(err)
	return e.WithRemedy("go on with the action of that id: `openhands-rt actions attach " + id + "` (one that was started with --detach " +
		"takes no input, so it is another action than the same command without it); or use another --id")
}

// lostError says that the daemon was not to be reached any more: what the action needs must stay.
type lostError struct{ err *rterr.Error }

func (l *lostError) Error() string { return l.err.Error() }

func (l *lostError) Unwrap() error { return l.err }
