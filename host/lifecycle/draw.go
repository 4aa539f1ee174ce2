package lifecycle

import (
	"fmt"
	"strings"
)

// Dot returns the machine as a Graphviz graph. Events that lead from nearly everywhere to one place are drawn from one node
// "any status", so that the picture can be read.
func Dot() string {
	var b strings.Builder
	b.WriteString("digraph lifecycle {\n\trankdir=LR;\n\tnode [shape=box, style=rounded, fontname=\"sans-serif\"];\n\tedge [fontname=\"sans-serif\", fontsize=10];\n")
	for _, s := range Statuses() {
		fmt.Fprintf(&b, "\t%s [label=\"%s\"%s];\n", s, nodeLabel(s, `\n`), dotStyle(s))
	}
	b.WriteString("\tany [label=\"any status\", shape=plaintext];\n")
	for _, t := range Table() {
		label := t.On.String()
		if but, wide := exceptions(t); wide {
			fmt.Fprintf(&b, "\tany -> %s [label=\"%s%s\", style=dashed];\n", t.To, label, but)
			continue
		}
		for _, from := range t.From {
			fmt.Fprintf(&b, "\t%s -> %s [label=\"%s\"];\n", from, t.To, label)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

func dotStyle(s Status) string {
	switch {
	case s.AdmitsActions():
		return ", penwidth=2"
	case s == Error || s == Disconnected:
		return ", color=red"
	default:
		return ""
	}
}

// nodeLabel is the status's name, and below it its limit.
func nodeLabel(s Status, newline string) string {
	if d := Limit(s); d > 0 {
		return fmt.Sprintf("%s%sat most %s", s, newline, d)
	}
	return s.String()
}

// exceptions says whether a row holds for nearly every status, and names those for which it does not.
func exceptions(t Transition) (string, bool) {
	if len(t.From) < int(statusCount)-3 {
		return "", false
	}
	var but []string
	for _, s := range Statuses() {
		if !contains(t.From, s) {
			but = append(but, s.String())
		}
	}
	if len(but) == 0 {
		return "", true
	}
	return " (not in " + strings.Join(but, ", ") + ")", true
}

// Mermaid returns the machine as a Mermaid state diagram, for documents.
func Mermaid() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    direction LR\n    [*] --> STOPPED\n    state \"any status\" as any\n")
	for _, t := range Table() {
		if but, wide := exceptions(t); wide {
			fmt.Fprintf(&b, "    any --> %s: %s%s\n", t.To, t.On, but)
			continue
		}
		for _, from := range t.From {
			fmt.Fprintf(&b, "    %s --> %s: %s\n", from, t.To, t.On)
		}
	}
	return b.String()
}

// Markdown returns two tables for documents: the statuses with their limits, and the transitions.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| status | meaning | time limit | actions start |\n|---|---|---|---|\n")
	for _, s := range Statuses() {
		limit, admits := "none", "no"
		if d := Limit(s); d > 0 {
			limit = d.String()
		}
		if s.AdmitsActions() {
			admits = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s, s.Meaning(), limit, admits)
	}
	b.WriteString("\n| from | event | to |\n|---|---|---|\n")
	for _, t := range Table() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", fromText(t), t.On, t.To)
	}
	return b.String()
}

func fromText(t Transition) string {
	if but, wide := exceptions(t); wide {
		return "any status" + but
	}
	out := make([]string, len(t.From))
	for i, s := range t.From {
		out[i] = s.String()
	}
	return strings.Join(out, ", ")
}
