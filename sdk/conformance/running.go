package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

const (
	stdout = agentv1.Channel_CHANNEL_STDOUT
	stderr = agentv1.Channel_CHANNEL_STDERR
	pty    = agentv1.Channel_CHANNEL_PTY
)

// maxKept bounds what is kept of one channel; the suite's own actions write less.
const maxKept = 32 << 20

// running is one stream of an action, read by the clause itself, and everything that it said so far.
type running struct {
	stream agent.Stream
	record *agentv1.ActionRecord
	output map[agentv1.Channel][]byte
	start  map[agentv1.Channel]uint64 // offset of output[channel][0]
	gaps   []*agentv1.Gap
	last   *agentv1.Observation
	ended  bool   // the stream said io.EOF
	broken string // the first breach of the order of events, for the clause that judges it
	pieces int
}

// start begins to read an action over a route. The caller closes it.
func startOn(ctx context.Context, via route, sb *sandbox, o order) (*running, error) {
	stream, err := via.open(ctx, sb, o)
	if err != nil {
		return nil, err
	}
	r := &running{stream: stream, output: map[agentv1.Channel][]byte{}, start: map[agentv1.Channel]uint64{}}
	for _, cursor := range o.from {
		r.start[cursor.GetChannel()] = cursor.GetOffset()
	}
	return r, nil
}

func (r *running) close() { _ = r.stream.Close() }

// next reads one event. io.EOF is the end of a stream that is whole.
func (r *running) next() error {
	event, err := r.stream.Recv()
	if errors.Is(err, io.EOF) {
		r.ended = true
		if r.last == nil {
			r.breach("the stream ended without an observation")
		}
		return io.EOF
	}
	if err != nil {
		return err
	}
	r.take(event)
	return nil
}

func (r *running) take(event *agentv1.ActionEvent) {
	if r.last != nil {
		r.breach("%T came after the observation", event.GetEvent())
	}
	switch e := event.GetEvent().(type) {
	case *agentv1.ActionEvent_Record:
		if r.record != nil {
			r.breach("a second record came")
		}
		r.record = e.Record
	case *agentv1.ActionEvent_Output:
		r.needRecord("output")
		r.takeOutput(e.Output)
	case *agentv1.ActionEvent_Gap:
		r.needRecord("a gap")
		r.takeGap(e.Gap)
	case *agentv1.ActionEvent_Observation:
		r.needRecord("the observation")
		r.last = e.Observation
	case *agentv1.ActionEvent_Heartbeat:
	default:
		r.breach("an event of no known kind came: %T", e)
	}
}

func (r *running) needRecord(what string) {
	if r.record == nil {
		r.breach("%s came before the record", what)
	}
}

// maxPiece is the largest piece of output that agent.v1 allows, in bytes.
const maxPiece = 64 << 10

func (r *running) takeOutput(o *agentv1.Output) {
	r.pieces++
	next := r.nextOffset(o.GetChannel())
	switch {
	case o.GetChannel() == agentv1.Channel_CHANNEL_UNSPECIFIED:
		r.breach("output of no channel")
	case len(o.GetData()) > maxPiece:
		r.breach("a piece of %d bytes, at most %d are allowed", len(o.GetData()), maxPiece)
	case o.GetOffset() != next:
		r.breach("%s: a piece at offset %d where %d was next", o.GetChannel(), o.GetOffset(), next)
	}
	if len(r.output[o.GetChannel()])+len(o.GetData()) > maxKept {
		r.breach("%s: more than %d bytes", o.GetChannel(), maxKept)
		return
	}
	r.output[o.GetChannel()] = append(r.output[o.GetChannel()], o.GetData()...)
}

func (r *running) takeGap(g *agentv1.Gap) {
	r.gaps = append(r.gaps, g)
	if next := r.nextOffset(g.GetChannel()); g.GetOffset() != next {
		r.breach("%s: a gap at offset %d where %d was next", g.GetChannel(), g.GetOffset(), next)
	}
	r.start[g.GetChannel()] += g.GetLength()
}

func (r *running) nextOffset(ch agentv1.Channel) uint64 {
	return r.start[ch] + uint64(len(r.output[ch]))
}

func (r *running) breach(format string, args ...any) {
	if r.broken == "" {
		r.broken = fmt.Sprintf(format, args...)
	}
}

// finish reads to the end of the stream and returns the observation.
func (r *running) finish() (*agentv1.Observation, error) {
	for {
		switch err := r.next(); {
		case errors.Is(err, io.EOF) && r.last == nil:
			return nil, errors.New("the stream ended without an observation")
		case errors.Is(err, io.EOF):
			return r.last, nil
		case err != nil:
			return nil, err
		}
	}
}

// until reads until a channel's output has a text in it.
func (r *running) until(ch agentv1.Channel, text string) error {
	for !strings.Contains(string(r.output[ch]), text) {
		switch err := r.next(); {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the action ended before it wrote %q: %s, output %s", text, told(r.last), quote(r.output[ch]))
		case err != nil:
			return err
		}
	}
	return nil
}

// started reads the record.
func (r *running) started() error {
	for r.record == nil {
		if err := r.next(); err != nil {
			return err
		}
	}
	return nil
}

// process makes a process action.
func process(argv ...string) *agentv1.Action { return processOf(action.Process{Argv: argv}, 0) }

func processOf(p action.Process, timeout time.Duration) *agentv1.Action {
	return newAction(action.KindProcess, p, timeout)
}

// shell makes a process action that runs a script of sh.
func shell(script string, args ...string) *agentv1.Action {
	return process(append([]string{"sh", "-c", script, "sh"}, args...)...)
}

// command makes a run action.
func command(text string) *agentv1.Action {
	return newAction(action.KindRun, action.Run{Command: text}, 0)
}

func newAction(kind string, payload any, timeout time.Duration) *agentv1.Action {
	a, err := action.New(kind, payload, timeout)
	if err != nil {
		panic(err) // the suite's own payloads are plain structs
	}
	return a
}

// rawAction makes an action whose payload is given as bytes.
func rawAction(kind, payload string, timeout time.Duration) *agentv1.Action {
	a := &agentv1.Action{Id: action.NewID(), Kind: kind, Payload: []byte(payload),
		Digest: action.Digest(kind, timeout, []byte(payload))}
	if timeout > 0 {
		a.Timeout = durationpb.New(timeout)
	}
	return a
}

// run executes an action to its end.
func run(ctx context.Context, via route, sb *sandbox, a *agentv1.Action) (*running, error) {
	return runOrder(ctx, via, sb, order{action: a})
}

func runOrder(ctx context.Context, via route, sb *sandbox, o order) (*running, error) {
	r, err := startOn(ctx, via, sb, o)
	if err != nil {
		return nil, err
	}
	defer r.close()
	_, err = r.finish()
	return r, err
}

// refusal executes an action that must not run and returns why it did not: an error of the call, or of a failed observation.
func refusal(ctx context.Context, via route, sb *sandbox, a *agentv1.Action) (*rterr.Error, error) {
	r, err := run(ctx, via, sb, a)
	if err != nil {
		return asRefusal(err)
	}
	if r.last.GetOutcome() != agentv1.Outcome_OUTCOME_FAILED || r.last.GetError() == nil {
		return nil, fmt.Errorf("it was not refused: %s", told(r.last))
	}
	return fromDetail(r.last.GetError()), nil
}

// asRefusal tells a refusal from a call that could not be made or ended.
func asRefusal(err error) (*rterr.Error, error) {
	if !isOurs(err) || rterr.Is(err, rterr.Network, rterr.Timeout, rterr.Cancelled, rterr.Internal) {
		return nil, err
	}
	return rterr.From(err), nil
}

// wantExit checks that an action completed with an exit code.
func wantExit(o *agentv1.Observation, code int32) error {
	if o.GetOutcome() != agentv1.Outcome_OUTCOME_COMPLETED || o.ExitCode == nil || o.GetExitCode() != code {
		return fmt.Errorf("want OUTCOME_COMPLETED with exit code %d, got %s", code, told(o))
	}
	return nil
}

// ok checks that an action completed with exit code 0 and returns its standard output.
func ok(ctx context.Context, via route, sb *sandbox, a *agentv1.Action) (string, error) {
	r, err := run(ctx, via, sb, a)
	if err != nil {
		return "", err
	}
	if err := wantExit(r.last, 0); err != nil {
		return "", fmt.Errorf("%w, stderr %s", err, quote(r.output[stderr]))
	}
	return string(r.output[stdout]), nil
}
