package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Clause is one rule of the contract that can be checked by itself.
type Clause struct {
	// Name is stable: a group, the rule, and the path for rules that hold on both action paths: "execute/bytes/agent".
	Name string
	// Rule states it in one sentence.
	Rule string
	// Needs says what a backend must have for the rule to apply: capabilities, or a property of the target. Empty: it always does.
	Needs string
}

// Clauses returns every clause in the order in which they are reported.
func Clauses() []Clause {
	var all []Clause
	for _, c := range table() {
		all = append(all, c.describe())
	}
	return all
}

// need is a condition under which a clause applies.
type need struct {
	name string
	met  func(*suite) bool
}

// clause is a Clause with what checks it.
type clause struct {
	name  string
	rule  string
	needs []need
	// last: it judges what was seen in all other clauses, so it runs after them, alone.
	last bool
	run  func(context.Context, *check) error
}

func (c clause) describe() Clause {
	var needs []string
	for _, n := range c.needs {
		needs = append(needs, n.name)
	}
	return Clause{Name: c.name, Rule: c.rule, Needs: strings.Join(needs, ", ")}
}

// absent returns what the clause needs and the target has not, "" if nothing.
func (c clause) absent(s *suite) string {
	for _, n := range c.needs {
		if !n.met(s) {
			return n.name
		}
	}
	return ""
}

func table() []clause {
	return slices.Concat(
		describeClauses(), configureClauses(), connectClauses(), attachClauses(),
		overPaths(executeClauses()), overPaths(onceClauses()), overPaths(interruptClauses()), overPaths(runClauses()),
		agentClauses(), statusClauses(), pauseClauses(), closeClauses(), listClauses(), leaseClauses(),
		capabilityClauses(), limitClauses(), pluginClauses(), errorClauses(),
	)
}

// selected returns the clauses that only names, all of them if it is empty. A name that matches none is an error.
func selected(all []clause, only []string) ([]clause, error) {
	if len(only) == 0 {
		return all, nil
	}
	wanted := map[string]bool{}
	for _, pattern := range only {
		pattern = strings.TrimSuffix(pattern, "/")
		found := false
		for _, c := range all {
			if c.name == pattern || strings.HasPrefix(c.name, pattern+"/") {
				wanted[c.name], found = true, true
			}
		}
		if !found {
			return nil, rterr.Invalid("conformance", "only", "no clause is called %q", pattern).
				WithRemedy("list the clauses, and name one or a group of them")
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(c clause) bool { return !wanted[c.name] }), nil
}

// routed is a clause that holds on every way to the actions.
type routed struct {
	name  string
	rule  string
	needs []need
	run   func(context.Context, *check, route) error
}

// overPaths makes of each rule one clause through the plugin and one straight at the agent.
func overPaths(rules []routed) []clause {
	var all []clause
	for _, r := range rules {
		all = append(all,
			clause{name: r.name + "/plugin", rule: r.rule, needs: r.needs,
				run: func(ctx context.Context, c *check) error { return r.run(ctx, c, pluginRoute{}) }},
			clause{name: r.name + "/agent", rule: r.rule, needs: append([]need{needEndpoint()}, r.needs...),
				run: func(ctx context.Context, c *check) error { return r.run(ctx, c, agentRoute{}) }})
	}
	return all
}

func capability(name string, has func(*backendv1.Capabilities) bool) need {
	return need{name: "capability " + name, met: func(s *suite) bool { return has(s.expect) }}
}

func needPause() need { return capability("pause", (*backendv1.Capabilities).GetPause) }
func needEndpoint() need {
	return capability("agent_endpoint", (*backendv1.Capabilities).GetAgentEndpoint)
}
func needOnce() need { return capability("once_only", (*backendv1.Capabilities).GetOnceOnly) }
func needKeeps() need {
	return capability("pause_keeps_processes", (*backendv1.Capabilities).GetPauseKeepsProcesses)
}

// needCutBy: Pause ends what runs.
func needCutBy() need {
	return need{name: "no capability pause_keeps_processes", met: func(s *suite) bool { return !s.expect.GetPauseKeepsProcesses() }}
}

func needTree() need { return capability("whole_tree", (*backendv1.Capabilities).GetWholeTree) }

func needKind(kind string) need {
	return capability(fmt.Sprintf("kind %s", kind), func(c *backendv1.Capabilities) bool {
		return slices.Contains(c.GetKinds(), kind)
	})
}

func needProcess() need { return needKind(action.KindProcess) }
func needRun() need     { return needKind(action.KindRun) }

func needCommand() need {
	return need{name: "a plugin that is launched, not dialled", met: func(s *suite) bool { return len(s.target.Command) > 0 }}
}

func needWorkspaces() need {
	return need{name: "a folder for workspaces on this machine", met: func(s *suite) bool { return s.target.Workspaces != "" }}
}

func needBadConfigs() need {
	return need{name: "bad configs given by the tester", met: func(s *suite) bool { return len(s.target.BadConfigs) > 0 }}
}
