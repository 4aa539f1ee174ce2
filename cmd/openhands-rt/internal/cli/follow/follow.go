// Package follow keeps to one action until its observation: its output over any number of cut connections, its input, and
// its interrupts. Every byte is handed on exactly once and in order.
//
// It belongs to the command line; nothing else imports it.
package follow

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/retry"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
)

// The waits of this package.
const (
	// settled is how long a stream must have lived for its end to be a new outage, with a budget of its own.
	settled = time.Second
	// silence is how long a stream may say nothing, not even a heartbeat, before it counts as cut.
	silence = 2 * time.Minute
)

// Stream is one action to follow. Start it with Run.
type Stream struct {
	API runtimev1connect.ActionServiceClient
	// RuntimeID of the action; may be empty to attach.
	RuntimeID string
	// ActionID names the action. Action is the envelope to start it with, nil to attach only.
	ActionID string
	Action   *agentv1.Action
	// From is where to start in each channel.
	From []*agentv1.OutputCursor
	// Transient says which errors are worth another try.
	Transient func(error) bool
	// Reconnect is how long one outage may last; zero means no second try.
	Reconnect time.Duration
	// OnRecord is called once, with the first record: from then on the action is known to the daemon. May be nil.
	OnRecord func(*agentv1.ActionRecord)
	// OnEvent gets output, gaps, and the observation as the last. An error ends Run with it. It may block: the daemon waits.
	OnEvent func(*agentv1.ActionEvent) error
	// OnCut is called when the connection is lost, OnBack when it is there again. May be nil.
	OnCut  func(error)
	OnBack func()

	at       cursor
	recorded bool
	cut      bool
}

// eventError is OnEvent's own error, which no retry can help.
type eventError struct{ error }

func (e eventError) Unwrap() error { return e.error }

// Run starts or attaches to the action and blocks until its observation, which it returns. When the connection is lost, it
// goes on at the next offsets; the id makes a second start harmless. Errors are those of the API, of OnEvent, or ctx's.
func (s *Stream) Run(ctx context.Context) (*agentv1.Observation, error) {
	s.at = newCursor(s.From)
	obs, err := retry.Do(ctx, s.Reconnect, s.retryable, func() (*agentv1.Observation, error) { return s.try(ctx) })
	if own, ok := errors.AsType[eventError](err); ok {
		return nil, own.error
	}
	return obs, err
}

func (s *Stream) retryable(err error) bool {
	_, own := errors.AsType[eventError](err)
	return !own && s.Transient(err)
}

// try opens a stream and reads it to its end.
func (s *Stream) try(ctx context.Context) (*agentv1.Observation, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := time.AfterFunc(silence, func() { cancel(retry.ErrCut) })
	defer dog.Stop()
	events, err := s.open(ctx)
	if err != nil {
		return nil, s.lost(err, false)
	}
	defer func() { _ = events.Close() }() // the context ends it in any case
	opened, moved := time.Now(), false
	for events.Receive() {
		dog.Stop() // handing on may block for as long as it likes
		s.back()
		obs, progress, err := s.take(events.Msg())
		if err != nil || obs != nil {
			return obs, err
		}
		moved = moved || progress
		dog.Reset(silence)
	}
	err = events.Err()
	if err == nil || errors.Is(context.Cause(ctx), retry.ErrCut) {
		err = retry.ErrCut // no end without an observation
	}
	return nil, s.lost(err, moved || time.Since(opened) > settled)
}

func (s *Stream) open(ctx context.Context) (*connect.ServerStreamForClient[agentv1.ActionEvent], error) {
	if s.Action != nil && !s.recorded {
		return s.API.ExecuteAction(ctx, connect.NewRequest(&runtimev1.ExecuteActionRequest{
			RuntimeId: s.RuntimeID, Action: s.Action, From: s.at.from(),
		}))
	}
	return s.API.AttachAction(ctx, connect.NewRequest(&runtimev1.AttachActionRequest{
		RuntimeId: s.RuntimeID, ActionId: s.ActionID, From: s.at.from(),
	}))
}

// lost is what a try ends with.
func (s *Stream) lost(err error, progress bool) error {
	if !s.Transient(err) {
		return err
	}
	if !s.cut && s.OnCut != nil {
		s.OnCut(err)
	}
	s.cut = true
	if progress {
		return retry.Moved(err)
	}
	return err
}

func (s *Stream) back() {
	if s.cut && s.OnBack != nil {
		s.OnBack()
	}
	s.cut = false
}

// take hands on what is new in an event. progress: it was more than a record.
func (s *Stream) take(ev *agentv1.ActionEvent) (obs *agentv1.Observation, progress bool, err error) {
	switch e := ev.GetEvent().(type) {
	case *agentv1.ActionEvent_Record:
		s.record(e.Record)
		return nil, false, nil
	case *agentv1.ActionEvent_Output:
		return nil, true, s.output(e.Output)
	case *agentv1.ActionEvent_Gap:
		if g := s.at.gap(e.Gap); g != nil {
			err = s.emit(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Gap{Gap: g}})
		}
		return nil, true, err
	case *agentv1.ActionEvent_Observation:
		if err := s.missing(e.Observation); err != nil {
			return nil, true, err
		}
		return e.Observation, true, s.emit(ev)
	default:
		return nil, true, nil
	}
}

func (s *Stream) record(r *agentv1.ActionRecord) {
	if s.recorded {
		return
	}
	s.recorded = true
	if s.OnRecord != nil {
		s.OnRecord(r)
	}
}

func (s *Stream) output(o *agentv1.Output) error {
	fresh, hole := s.at.output(o)
	if hole != nil {
		if err := s.emit(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Gap{Gap: hole}}); err != nil {
			return err
		}
	}
	if fresh == nil {
		return nil
	}
	return s.emit(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Output{Output: fresh}})
}

// missing tells of bytes that the observation counts and the stream did not bring.
func (s *Stream) missing(obs *agentv1.Observation) error {
	for _, end := range obs.GetChannels() {
		g := s.at.gap(&agentv1.Gap{Channel: end.GetChannel(), Offset: s.at[end.GetChannel()], Length: end.GetLength() - min(end.GetLength(), s.at[end.GetChannel()])})
		if g == nil {
			continue
		}
		if err := s.emit(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Gap{Gap: g}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) emit(ev *agentv1.ActionEvent) error {
	if err := s.OnEvent(ev); err != nil {
		return eventError{err}
	}
	return nil
}
