package conformance

import (
	"errors"
	"io"
	"strings"
	"testing"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
)

// script is an action's stream that was written down.
type script struct {
	events []*agentv1.ActionEvent
	end    error
}

func (s *script) Recv() (*agentv1.ActionEvent, error) {
	if len(s.events) == 0 {
		return nil, s.end
	}
	next := s.events[0]
	s.events = s.events[1:]
	return next, nil
}

func (s *script) Close() error { return nil }

func recordEvent() *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: &agentv1.ActionRecord{Id: "a"}}}
}

func outputEvent(ch agentv1.Channel, offset uint64, data string) *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Output{
		Output: &agentv1.Output{Channel: ch, Offset: offset, Data: []byte(data)}}}
}

func gapEvent(offset, length uint64) *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Gap{Gap: &agentv1.Gap{Channel: stdout, Offset: offset, Length: length}}}
}

func lastEvent() *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{
		Observation: &agentv1.Observation{ActionId: "a", Outcome: agentv1.Outcome_OUTCOME_COMPLETED}}}
}

func beat() *agentv1.ActionEvent {
	return &agentv1.ActionEvent{Event: &agentv1.ActionEvent_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
}

func played(events ...*agentv1.ActionEvent) *running {
	return &running{stream: &script{events, io.EOF}, output: map[agentv1.Channel][]byte{}, start: map[agentv1.Channel]uint64{}}
}

func TestEventOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []*agentv1.ActionEvent
		breach string // part of it; empty for a right stream
	}{
		{"right", []*agentv1.ActionEvent{beat(), recordEvent(), outputEvent(stdout, 0, "ab"), outputEvent(stderr, 0, "x"),
			beat(), outputEvent(stdout, 2, "c"), lastEvent()}, ""},
		{"gap", []*agentv1.ActionEvent{recordEvent(), outputEvent(stdout, 0, "ab"), gapEvent(2, 10), outputEvent(stdout, 12, "c"), lastEvent()}, ""},
		{"no record", []*agentv1.ActionEvent{outputEvent(stdout, 0, "a"), lastEvent()}, "before the record"},
		{"observation first", []*agentv1.ActionEvent{lastEvent()}, "before the record"},
		{"two records", []*agentv1.ActionEvent{recordEvent(), recordEvent(), lastEvent()}, "second record"},
		{"two observations", []*agentv1.ActionEvent{recordEvent(), lastEvent(), lastEvent()}, "after the observation"},
		{"late output", []*agentv1.ActionEvent{recordEvent(), lastEvent(), outputEvent(stdout, 0, "a")}, "after the observation"},
		{"late heartbeat", []*agentv1.ActionEvent{recordEvent(), lastEvent(), beat()}, "after the observation"},
		{"hole", []*agentv1.ActionEvent{recordEvent(), outputEvent(stdout, 1, "a"), lastEvent()}, "offset 1 where 0"},
		{"overlap", []*agentv1.ActionEvent{recordEvent(), outputEvent(stdout, 0, "ab"), outputEvent(stdout, 1, "b"), lastEvent()}, "offset 1 where 2"},
		{"misplaced gap", []*agentv1.ActionEvent{recordEvent(), gapEvent(3, 1), lastEvent()}, "gap at offset 3"},
		{"no channel", []*agentv1.ActionEvent{recordEvent(), outputEvent(0, 0, "a"), lastEvent()}, "no channel"},
		{"large piece", []*agentv1.ActionEvent{recordEvent(), outputEvent(stdout, 0, strings.Repeat("a", maxPiece+1)), lastEvent()}, "at most"},
		{"unknown event", []*agentv1.ActionEvent{recordEvent(), {}, lastEvent()}, "no known kind"},
		{"no observation", []*agentv1.ActionEvent{recordEvent()}, "without an observation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := played(c.events...)
			_, err := r.finish()
			if (err != nil) != (c.name == "no observation") {
				t.Errorf("finish: %v", err)
			}
			if c.breach == "" && r.broken != "" || !strings.Contains(r.broken, c.breach) {
				t.Errorf("breach %q, want %q", r.broken, c.breach)
			}
		})
	}
}

func TestUntilReadsNoFurther(t *testing.T) {
	r := played(recordEvent(), outputEvent(stdout, 0, "rea"), outputEvent(stdout, 3, "dy\n"), outputEvent(stdout, 6, "more"), lastEvent())
	if err := r.until(stdout, "ready\n"); err != nil {
		t.Fatal(err)
	}
	if got := string(r.output[stdout]); got != "ready\n" {
		t.Errorf("read %q", got)
	}
	if err := r.until(stdout, "never"); err == nil || !strings.Contains(err.Error(), "never") {
		t.Errorf("the end of the action: %v", err)
	}
}

func TestFinishTellsACut(t *testing.T) {
	cut := errors.New("cut")
	r := &running{stream: &script{[]*agentv1.ActionEvent{recordEvent()}, cut}, output: map[agentv1.Channel][]byte{}, start: map[agentv1.Channel]uint64{}}
	if _, err := r.finish(); !errors.Is(err, cut) {
		t.Errorf("got %v", err)
	}
}

func TestReaderGoesOnAtItsCursor(t *testing.T) {
	r := played(recordEvent(), outputEvent(stdout, 7, "x"), lastEvent())
	r.start[stdout] = 7
	if _, err := r.finish(); err != nil || r.broken != "" {
		t.Errorf("%v, %q", err, r.broken)
	}
	if got := r.nextOffset(stdout); got != 8 {
		t.Errorf("next offset %d", got)
	}
}

func TestLongestHold(t *testing.T) {
	ticks := []tick{{number: 1, clock: 0}, {number: 2, clock: 50}, {number: 3, clock: 2050}, {number: 4, clock: 2100}}
	if got, err := longestHold(ticks); err != nil || got != 2000 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := longestHold([]tick{{number: 1}, {number: 3}}); err == nil {
		t.Error("a missing line is not seen")
	}
	if _, err := longestHold([]tick{{number: 5}, {number: 1}}); err == nil {
		t.Error("a counter that began again is not seen")
	}
}
