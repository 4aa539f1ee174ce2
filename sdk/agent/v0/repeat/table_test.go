package repeat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func minter(ids ...string) func() string {
	return func() string {
		id := ids[0]
		ids = ids[1:]
		return id
	}
}

func begin(t *testing.T, table *Table, key Key, mint func() string) *Exchange {
	t.Helper()
	x, err := table.Begin(t.Context(), key, nil, mint)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestSeedsAreRepeatedOnceInTheirOwnGeneration(t *testing.T) {
	table := NewTable()
	defer table.Close()
	body := bodyOf("x")
	id := IDOf(body, "u1")
	table.Seed("r", 2, id)
	table.Seed("r", 2, id)
	for _, foreign := range []string{"a-123", "v0-", "v0-short-1", "v0-setup-1", body} {
		table.Seed("r", 2, foreign)
	}
	if table.Len() != 1 {
		t.Fatalf("%d exchanges", table.Len())
	}
	mint := minter("m1", "m2", "m3")
	for i, c := range []struct {
		key     Key
		want    string
		repeats bool
	}{
		{Key{"r", 3, body}, "m1", false}, {Key{"q", 2, body}, "m2", false},
		{Key{"r", 2, body}, id, true}, {Key{"r", 2, body}, "m3", false},
	} {
		if x := begin(t, table, c.key, mint); x.Action != c.want || x.Repeats != c.repeats {
			t.Errorf("%d: %s %v, want %s %v", i, x.Action, x.Repeats, c.want, c.repeats)
		}
	}
}

func TestWhatWasCutIsForgottenInTime(t *testing.T) {
	key := Key{"r", 1, "b"}
	for name, c := range map[string]struct {
		reset bool
		after time.Duration
		want  string
	}{
		"reset, in time":  {true, resetWindow, "old"},
		"reset, too late": {true, resetWindow + time.Second, "new"},
		"cut, in time":    {false, KeepCut, "old"},
		"cut, too late":   {false, KeepCut + time.Second, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := NewTable()
				defer table.Close()
				x := begin(t, table, key, minter("old"))
				if c.reset {
					x.Answering()
					if !x.Written(nil) {
						t.Fatal("not written")
					}
					x.notice(reset)
				} else {
					x.Abandon()
				}
				time.Sleep(c.after)
				if got := begin(t, table, key, minter("new")).Action; got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		})
	}
}

func TestForgetIsNoCut(t *testing.T) {
	table := NewTable()
	defer table.Close()
	key := Key{"r", 1, "b"}
	begin(t, table, key, minter("old")).Forget()
	if x := begin(t, table, key, minter("new")); x.Action != "new" {
		t.Errorf("%s", x.Action)
	}
}

// TestEveryOrderOfSignals walks the states of one exchange; the result is what an equal request finds.
func TestEveryOrderOfSignals(t *testing.T) {
	steps := map[string]func(*Exchange){
		"eof": func(x *Exchange) { x.notice(closed) }, "rst": func(x *Exchange) { x.notice(reset) },
		"more": func(x *Exchange) { x.notice(more) }, "answer": (*Exchange).Answering,
		"flush": func(x *Exchange) { x.Written(nil) }, "broken": func(x *Exchange) { x.Written(errors.New("broken pipe")) },
		"abandon": (*Exchange).Abandon,
	}
	for script, want := range map[string]string{
		"eof":                       "old",
		"rst":                       "old",
		"abandon":                   "old",
		"eof answer flush":          "old", // it did not wait for the answer
		"rst answer broken":         "old",
		"answer broken":             "old",
		"answer rst flush":          "old",
		"answer abandon":            "old",
		"answer eof flush":          "new", // read and closed before we looked
		"answer more flush":         "new",
		"answer eof broken":         "old",
		"answer flush eof":          "new",
		"answer flush more":         "new",
		"answer flush rst":          "old",
		"answer flush rst eof":      "old",
		"answer flush eof rst":      "new",
		"answer flush more rst":     "new",
		"more answer flush rst":     "old", // sent ahead of the answer: says nothing about it
		"answer flush abandon more": "new",
	} {
		t.Run(strings.ReplaceAll(script, " ", ","), func(t *testing.T) {
			table := NewTable()
			defer table.Close()
			key := Key{"r", 1, "b"}
			x := begin(t, table, key, minter("old"))
			for step := range strings.FieldsSeq(script) {
				steps[step](x)
			}
			if got := begin(t, table, key, minter("new")).Action; got != want {
				t.Errorf("an equal request is the %s action, want the %s", got, want)
			}
		})
	}
}

func TestTheTableIsBounded(t *testing.T) {
	table := NewTable()
	defer table.Close()
	for i := range maxCut + 100 {
		begin(t, table, Key{"r", 1, fmt.Sprint(i)}, minter("m")).Abandon()
	}
	if n := table.Len(); n != maxCut {
		t.Errorf("%d, want %d", n, maxCut)
	}
	if x := begin(t, table, Key{"r", 1, "0"}, minter("new")); x.Repeats {
		t.Error("the oldest is still there")
	}
}

func TestAClientThatGoesWhileItsRequestWaits(t *testing.T) {
	table := NewTable()
	defer table.Close()
	key := Key{"r", 1, "b"}
	// A connection that is none: it says nothing, as one that is alive.
	if _, err := table.Begin(t.Context(), key, &Conn{table: table}, minter("old")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	table.onWait = cancel
	if _, err := table.Begin(ctx, key, nil, minter("new")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if table.Len() != 1 {
		t.Errorf("%d exchanges", table.Len())
	}
}

func FuzzBodyIn(f *testing.F) {
	f.Add(IDOf(bodyOf("x"), "u"))
	f.Add("v0-a-b")
	f.Fuzz(func(t *testing.T, id string) {
		if body, ok := bodyIn(id); ok && !strings.HasPrefix(id, idPrefix+body+"-") {
			t.Errorf("%q from %q", body, id)
		}
	})
}
