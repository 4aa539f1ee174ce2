package conformance

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestClausesAreStated(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+/[a-z-]+(/(plugin|agent))?$`)
	seen := map[string]bool{}
	for _, c := range Clauses() {
		if !name.MatchString(c.Name) || seen[c.Name] {
			t.Errorf("name %q is odd or taken", c.Name)
		}
		seen[c.Name] = true
		if !strings.HasSuffix(c.Rule, ".") || strings.Contains(c.Rule, "\n") {
			t.Errorf("%s: the rule is no sentence: %q", c.Name, c.Rule)
		}
	}
	if len(seen) < 80 {
		t.Errorf("%d clauses", len(seen))
	}
}

func TestOnly(t *testing.T) {
	for _, c := range []struct {
		only []string
		want []string
	}{
		{[]string{"connect/intent"}, []string{"connect/intent"}},
		{[]string{"once/later"}, []string{"once/later/plugin", "once/later/agent"}},
		{[]string{"errors/", "connect/intent"}, []string{"connect/intent", "errors/no-handle", "errors/deadline", "errors/detail"}},
	} {
		got, err := selected(table(), c.only)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, cl := range got {
			names = append(names, cl.name)
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%q selects %q, want %q", c.only, names, c.want)
		}
	}
	if _, err := selected(table(), []string{"connect/inten"}); !rterr.Is(err, rterr.InvalidArgument) || !strings.Contains(err.Error(), "connect/inten") {
		t.Errorf("an unknown name: %v", err)
	}
}

// testSuite is a suite without a plugin.
func testSuite() *suite {
	return &suite{target: Target{Timeout: time.Minute}, log: hclog.NewNullLogger(), expect: &backendv1.Capabilities{}}
}

func TestRunOne(t *testing.T) {
	ctxEnded := func(ctx context.Context, c *check) error { <-ctx.Done(); return ctx.Err() }
	for _, c := range []struct {
		name   string
		clause clause
		status Status
		detail string
	}{
		{"pass", clause{run: func(context.Context, *check) error { return nil }}, Pass, ""},
		{"fail", clause{run: func(_ context.Context, c *check) error { c.step("do %d", 1); return errors.New("seen") }}, Fail, "do 1: seen"},
		{"typed", clause{run: func(context.Context, *check) error { return rterr.New(rterr.SandboxGone, "op", "no") }}, Fail, "op: no [sandbox_gone]"},
		{"panic", clause{run: func(context.Context, *check) error { panic("oops") }}, Fail, "panicked: oops"},
		{"skip", clause{needs: []need{needPause()}, run: nil}, Skip, "capability pause"},
		{"time", clause{run: ctxEnded}, Fail, "time limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testSuite()
			if c.name == "time" {
				s.target.Timeout = time.Nanosecond
			}
			r := s.runOne(t.Context(), c.clause)
			if r.Status != c.status || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("got %s %q, want %s %q", r.Status, r.Detail, c.status, c.detail)
			}
		})
	}
}

func TestCleanUpRunsAfterAnEndedClause(t *testing.T) {
	var order []string
	cl := clause{run: func(_ context.Context, c *check) error {
		c.later(func(ctx context.Context) {
			if ctx.Err() == nil {
				order = append(order, "first")
			}
		})
		c.later(func(context.Context) { order = append(order, "second") })
		panic("oops")
	}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	testSuite().runOne(ctx, cl)
	if !slices.Equal(order, []string{"second", "first"}) {
		t.Errorf("undone %q, want the latest first, with a context that lives", order)
	}
}

func TestLastClausesRunAlone(t *testing.T) {
	running := make(chan struct{}, 10)
	early := clause{name: "early", run: func(context.Context, *check) error {
		running <- struct{}{}
		return nil
	}}
	last := clause{name: "last", last: true, run: func(context.Context, *check) error {
		if len(running) != 3 {
			return errors.New("it ran before the others")
		}
		return nil
	}}
	var reported int
	results := testSuite().runAll(t.Context(), []clause{early, last, early, early}, Options{Report: func(Result) { reported++ }})
	if failed := Failed(results); len(failed) > 0 || reported != 4 || results[1].Clause != "last" {
		t.Errorf("%d reported, failed %v", reported, failed)
	}
}

func TestTargetIsChecked(t *testing.T) {
	for name, target := range map[string]Target{
		"nothing":  {},
		"both":     {Command: []string{"x"}, Address: "unix:///x", StateDir: "/x"},
		"no state": {Command: []string{"x"}},
	} {
		if _, err := Run(t.Context(), target, Options{}); !rterr.Is(err, rterr.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Run(t.Context(), Target{Command: []string{"/no/such/plugin"}, StateDir: t.TempDir()}, Options{}); !rterr.Is(err, rterr.PluginUnavailable) {
		t.Errorf("no such binary: %v", err)
	}
}

func TestResultForPeople(t *testing.T) {
	r := Result{Clause: "a/b", Rule: "It holds.", Status: Fail, Detail: "one\ntwo", Took: 1500 * time.Millisecond}
	want := "FAIL a/b (1.50s)\n     rule: It holds.\n     seen: one\n           two"
	if r.String() != want {
		t.Errorf("got %q", r.String())
	}
	r.Status = Pass
	if r.String() != "PASS a/b (1.50s)" {
		t.Errorf("got %q", r.String())
	}
}
