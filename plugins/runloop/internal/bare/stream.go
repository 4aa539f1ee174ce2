package bare

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// Request asks for an action's events.
type Request struct {
	Action *agentv1.Action
	Output agentv1.OutputMode
	From   []*agentv1.OutputCursor
	// AttachOnly: an unknown action is NotFound.
	AttachOnly bool
	// Turn lets one caller at a time begin the action.
	Turn func(ctx context.Context) (leave func(), err error)
}

// Execute runs an action or attaches to it, and sends its events until the observation. send is called by one goroutine at a time.
func (b *Box) Execute(ctx context.Context, req Request, send func(*agentv1.ActionEvent) error) error {
	a := req.Action
	if req.AttachOnly {
		if err := action.CheckID(a.GetId()); err != nil {
			return err
		}
		return b.follow(ctx, b.key(a.GetId()).String(), req, send)
	}
	if err := action.Normalize(a); err != nil {
		return err
	}
	leave, err := req.Turn(ctx)
	if err != nil {
		return err
	}
	key, err := b.begin(ctx, a)
	leave()
	if err != nil {
		return err
	}
	return b.follow(ctx, key, req, send)
}

// follow sends what an execution says.
func (b *Box) follow(ctx context.Context, key string, req Request, send func(*agentv1.ActionEvent) error) error {
	if _, err := b.API.Execution(ctx, b.ID, key); client.Missing(err) {
		return b.cut(ctx, req, send)
	} else if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{id: req.Action.GetId(), digest: req.Action.GetDigest(), send: send, quiet: req.Output == agentv1.OutputMode_OUTPUT_MODE_NONE,
		skip: map[agentv1.Channel]uint64{}, length: map[agentv1.Channel]uint64{}, began: make(chan struct{})}
	for _, c := range req.From {
		f.skip[c.GetChannel()] = c.GetOffset()
	}
	var side sync.WaitGroup
	var sideErr error
	side.Go(func() {
		select {
		case <-f.began:
			sideErr = b.lines(ctx, key, true, func(line string) error { return f.piece(stderr, line) })
		case <-ctx.Done():
		}
	})
	err := b.lines(ctx, key, false, f.line)
	if err != nil || f.end == "" || f.refused != nil {
		cancel()
	}
	side.Wait()
	cancel()
	switch {
	case err != nil:
		return err
	case f.refused != nil:
		return f.refused
	case f.end == "":
		return b.cut(context.WithoutCancel(ctx), req, f.after)
	case sideErr != nil:
		return sideErr
	}
	return f.observe()
}

const (
	stdout = agentv1.Channel_CHANNEL_STDOUT
	stderr = agentv1.Channel_CHANNEL_STDERR
)

// cut answers for an action that was begun and whose end nobody saw: it is lost, and not run again.
func (b *Box) cut(ctx context.Context, req Request, send func(*agentv1.ActionEvent) error) error {
	id := req.Action.GetId()
	h, ok, err := b.known(ctx, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return unknown(id)
	case req.Action.GetDigest() != "" && h.digest != req.Action.GetDigest():
		return conflict(id, h.digest)
	}
	r := record(id, h)
	r.State = agentv1.ActionState_ACTION_STATE_DONE
	cause := rterr.New(rterr.OutcomeUnknown, "", "the devbox was cut off while the action ran").WithRan(rterr.RanUnknown)
	r.Observation = &agentv1.Observation{ActionId: id, Outcome: agentv1.Outcome_OUTCOME_LOST, Error: rtwire.ToDetail(cause)}
	if err := send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: r}}); err != nil {
		return err
	}
	return send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{Observation: r.Observation}})
}

func conflict(id, digest string) *rterr.Error {
	return rterr.New(rterr.ActionConflict, "", "id %q was used for another action", id).WithRan(rterr.RanNo).With("digest", digest)
}

// lines reads an execution's output to its end, line by line, over every cut of the stream.
func (b *Box) lines(ctx context.Context, key string, errs bool, take func(string) error) error {
	var read uint64
	var rest []byte
	for failed := 0; ; {
		n, err := b.once(ctx, key, errs, read, func(text string) error {
			rest = append(rest, text...)
			for {
				line, more, found := bytes.Cut(rest, []byte("\n"))
				if !found {
					return nil
				}
				rest = more
				if err := take(string(line)); err != nil {
					return stop{err}
				}
			}
		})
		read += n
		var halted stop
		switch {
		case errors.As(err, &halted):
			return halted.error
		case err == nil:
			return nil
		case n > 0 || client.Status(err) == http.StatusRequestTimeout: // A quiet stream is ended now and then.
			failed = 0
		case !(client.Passing(err) || errors.Is(err, errEarly)) || failed >= b.API.Config().Retries || ctx.Err() != nil:
			return err
		default:
			failed++
		}
		if err := pause(ctx, failed); err != nil {
			return err
		}
	}
}

// errEarly: a stream ended although its command has not.
var errEarly = errors.New("the stream ended before its command") //nolint:gochecknoglobals // constant

// pause waits before a stream is opened again: not at all, then longer each time.
func pause(ctx context.Context, failed int) error {
	if failed == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(firstPause << min(failed, 8))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// firstPause is half of the first wait.
const firstPause = 10 * time.Millisecond

// stop is an error of who takes the lines.
type stop struct{ error }

// once reads one stream from a byte on and returns how many it had. A stream ends when its command has.
func (b *Box) once(ctx context.Context, key string, errs bool, from uint64, take func(string) error) (n uint64, err error) {
	open := b.API.Stdout
	if errs {
		open = b.API.Stderr
	}
	stream, err := open(ctx, b.ID, key, from)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	for {
		chunk, err := stream.Next()
		if errors.Is(err, io.EOF) {
			view, err := b.API.Execution(ctx, b.ID, key)
			if err == nil && view.Status != api.ExecutionStatusCompleted {
				err = errEarly
			}
			return n, err
		}
		if err != nil {
			return n, err
		}
		n += uint64(len(chunk.Output))
		if err := take(chunk.Output); err != nil {
			return n, err
		}
	}
}

// follower turns an execution's lines into events.
type follower struct {
	id, digest string
	quiet      bool
	// began is closed when the record was sent.
	began chan struct{}
	head  head
	pid   int64
	start time.Time
	// end is the last line; refused why there is none.
	end     string
	refused error

	mu     sync.Mutex
	send   func(*agentv1.ActionEvent) error
	sent   bool
	skip   map[agentv1.Channel]uint64
	length map[agentv1.Channel]uint64
}

// after sends events behind a record that was sent already.
func (f *follower) after(ev *agentv1.ActionEvent) error {
	if ev.GetRecord() != nil && f.sent {
		return nil
	}
	return f.send(ev)
}

func (f *follower) line(text string) error {
	kind, rest, _ := strings.Cut(text, " ")
	switch kind {
	case "H", "D":
		h, ok := decodeHead(rest)
		if !ok {
			return rterr.New(rterr.Integrity, "", "the record of action %s cannot be read", f.id)
		}
		f.head = h
		if f.digest != "" && h.digest != f.digest {
			f.refused = conflict(f.id, h.digest)
		}
		return nil
	case "P":
		return f.begin(rest)
	case "F":
		f.end = text
		return f.announce()
	case "X":
		f.end = text
		return nil
	default:
		return f.piece(stdout, text)
	}
}

func (f *follower) begin(rest string) error {
	var ms int64
	if _, err := fmt.Sscan(rest, &f.pid, &ms); err != nil {
		return rterr.New(rterr.Integrity, "", "the beginning of action %s cannot be read", f.id)
	}
	f.start = time.UnixMilli(ms)
	return f.announce()
}

// announce sends the record, which lets the other channel begin.
func (f *follower) announce() error {
	if f.refused != nil {
		return nil
	}
	r := record(f.id, f.head)
	r.Pid = f.pid
	if !f.start.IsZero() {
		r.CreatedAt, r.StartedAt = timestamppb.New(f.start), timestamppb.New(f.start)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: r}})
	f.sent = true
	close(f.began)
	return err
}

// piece sends what a line has of a channel, from the wanted offset on.
func (f *follower) piece(ch agentv1.Channel, line string) error {
	if f.refused != nil {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return rterr.New(rterr.Integrity, "", "a piece of the output of action %s cannot be read", f.id)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.length[ch]
	f.length[ch] += uint64(len(data))
	if skip := f.skip[ch]; skip > at {
		cut := min(skip-at, uint64(len(data)))
		data, at = data[cut:], at+cut
	}
	if f.quiet || len(data) == 0 {
		return nil
	}
	return f.send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Output{Output: &agentv1.Output{Channel: ch, Offset: at, Data: data}}})
}

// observe sends the observation of the last line: "F program", or "X ended exit 3 1787000000000".
func (f *follower) observe() error {
	o := &agentv1.Observation{ActionId: f.id}
	if !f.start.IsZero() {
		o.StartedAt = timestamppb.New(f.start)
	}
	if what, ok := strings.CutPrefix(f.end, "F "); ok {
		o.Outcome = agentv1.Outcome_OUTCOME_FAILED
		o.Error = rtwire.ToDetail(rterr.New(rterr.NotFound, "start process", "there is no such %s", what).WithRan(rterr.RanNo))
	} else if err := f.ended(o); err != nil {
		return err
	}
	return f.send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{Observation: o}})
}

func (f *follower) ended(o *agentv1.Observation) error {
	words := strings.Fields(f.end)
	if len(words) != 5 {
		return rterr.New(rterr.Integrity, "", "the end of action %s cannot be read", f.id)
	}
	o.Outcome = map[string]agentv1.Outcome{
		"interrupted": agentv1.Outcome_OUTCOME_INTERRUPTED, "timed": agentv1.Outcome_OUTCOME_TIMED_OUT,
	}[words[1]]
	if o.Outcome == agentv1.Outcome_OUTCOME_UNSPECIFIED {
		o.Outcome = agentv1.Outcome_OUTCOME_COMPLETED
	}
	payload := action.ProcessObservation{Observation: action.KindProcess, Pid: int(f.pid), TimedOut: words[1] == "timed"}
	if code, err := strconv.Atoi(words[3]); err == nil && words[2] == "exit" {
		exit := int32(code) //nolint:gosec // at most 255
		o.ExitCode, payload.ExitCode = &exit, &code
	}
	if ms, err := strconv.ParseInt(words[4], 10, 64); err == nil {
		o.FinishedAt = timestamppb.New(time.UnixMilli(ms))
		payload.DurationMS = float64(time.UnixMilli(ms).Sub(f.start).Milliseconds())
	}
	raw, err := json.Marshal(payload)
	if err != nil {
		return rterr.Wrap(rterr.Internal, "", err)
	}
	o.Payload = raw
	for _, ch := range []agentv1.Channel{stdout, stderr} {
		o.Channels = append(o.Channels, &agentv1.ChannelEnd{Channel: ch, Length: f.length[ch]})
	}
	return nil
}
