package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Problems is the error of a configuration that cannot be used: everything that is wrong with it, ordered by key.
type Problems struct {
	// List of rterr.ConfigInvalid, each with Field, Remedy and the evidence "source".
	List []*rterr.Error
}

// Error returns one line per problem.
func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, e := range p.List {
		lines[i] = e.Error()
		if e.Remedy != "" {
			lines[i] += "; " + e.Remedy
		}
	}
	return "configuration: " + strings.Join(lines, "\nconfiguration: ")
}

// Unwrap returns the problems.
func (p *Problems) Unwrap() []error {
	out := make([]error, len(p.List))
	for i, e := range p.List {
		out[i] = e
	}
	return out
}

// findings collects problems.
type findings struct {
	from *Provenance
	list []*rterr.Error
}

// add notes a problem of the value at path.
func (f *findings) add(path, remedy, detail string, args ...any) {
	source := f.from.Of(path)
	text := fmt.Sprintf(detail, args...)
	if source.Kind != "default" {
		text += fmt.Sprintf(" (set in %s)", source)
	}
	f.list = append(f.list, rterr.New(rterr.ConfigInvalid, "", "%s", text).
		WithField(path).WithRemedy(remedy).With("source", source.String()))
}

// err returns what was found as an error, nil if nothing was.
func (f *findings) err() error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b *rterr.Error) int { return strings.Compare(a.Field, b.Field) })
	return &Problems{f.list}
}

// nearest returns the known word that is most like word, empty if none is.
func nearest(word string, known []string) string {
	best, at := "", max((len(word)+1)/3, 1)+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < at {
			best, at = k, d
		}
	}
	return best
}

// maxWord bounds the cost of distance.
const maxWord = 64

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	a, b = a[:min(len(a), maxWord)], b[:min(len(b), maxWord)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
