package openhands

import (
	"slices"
	"testing"
	"time"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	"github.com/openhands-rt/openhands-rt/sdk/agent/v0/repeat"
)

func idOf(body, unique string) string {
	h := repeat.Digest()
	_, _ = h.Write([]byte(body))
	return repeat.IDOf(repeat.BodyOf(h), unique)
}

func TestWhatMayBeAskedForAgainAfterARestart(t *testing.T) {
	now := time.Now()
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	done := func(id string, from, to int, answered bool) runtime.RecordedAction {
		return runtime.RecordedAction{ID: id, Answered: answered, CreatedAt: at(from), FinishedAt: at(to)}
	}
	running := func(id string, from int) runtime.RecordedAction {
		return runtime.RecordedAction{ID: id, CreatedAt: at(from)}
	}
	a, b, c := idOf("x", "1"), idOf("x", "2"), idOf("y", "3")
	for name, test := range map[string]struct {
		newestFirst []runtime.RecordedAction
		want        []string
	}{
		"nothing":                      {nil, nil},
		"all answered":                 {[]runtime.RecordedAction{done(b, -5, -4, true), done(a, -9, -8, true)}, nil},
		"the last is not":              {[]runtime.RecordedAction{done(b, -5, -4, false), done(a, -9, -8, true)}, []string{b}},
		"one runs":                     {[]runtime.RecordedAction{running(b, -5)}, []string{b}},
		"an answer was not noted":      {[]runtime.RecordedAction{running(b, -5), done(a, -9, -8, false)}, []string{b}},
		"two at once":                  {[]runtime.RecordedAction{running(b, -5), done(a, -9, -2, false)}, []string{a, b}},
		"queued behind one another":    {[]runtime.RecordedAction{running(b, -5), running(a, -9)}, []string{a, b}},
		"too long ago":                 {[]runtime.RecordedAction{done(c, -9000, -8999, false)}, nil},
		"others' actions say nothing":  {[]runtime.RecordedAction{running("a-exec", -1), done(a, -9, -8, false)}, []string{a}},
		"others' actions are not ours": {[]runtime.RecordedAction{running("a-exec", -1), done(setupID(1), -9, -8, false)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unanswered(test.newestFirst); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
