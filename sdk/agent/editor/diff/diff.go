// Package diff tells how two texts differ, in the words of Python's difflib: the hunks of unified_diff without context.
//
// sdk/agent/editor imports it.
package diff

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// budget bounds the work of finding matches; texts that need more are told apart by what they have in common at both ends.
const budget = 20_000_000

// Unified returns the unified diff of two texts without context. Both headers are path; lines are right-stripped and joined by
// newlines. Empty if the texts are equal.
func Unified(path, before, after string) string {
	if before == after {
		return ""
	}
	m := newMatcher(strings.Split(before, "\n"), strings.Split(after, "\n"))
	out := []string{trim("--- " + path), trim("+++ " + path)}
	for _, h := range m.hunks() {
		out = append(out, "@@ -"+extent(h.a, h.aEnd)+" +"+extent(h.b, h.bEnd)+" @@")
		for _, line := range m.before[h.a:h.aEnd] {
			out = append(out, trim("-"+line))
		}
		for _, line := range m.after[h.b:h.bEnd] {
			out = append(out, trim("+"+line))
		}
	}
	return strings.Join(out, "\n")
}

func trim(line string) string {
	return strings.TrimRightFunc(line, isSpace)
}

// isSpace is Python's str.isspace for what a line can end in.
func isSpace(r rune) bool {
	switch {
	case r >= 0x09 && r <= 0x0d, r >= 0x1c && r <= 0x20, r == 0x85, r == 0xa0, r == 0x1680, r >= 0x2000 && r <= 0x200a,
		r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000:
		return true
	}
	return false
}

// extent is a range of lines as unified diffs write it.
func extent(from, to int) string {
	switch to - from {
	case 0:
		return strconv.Itoa(from) + ",0"
	case 1:
		return strconv.Itoa(from + 1)
	}
	return strconv.Itoa(from+1) + "," + strconv.Itoa(to-from)
}

// block is a range of lines of both texts: [a, aEnd) and [b, bEnd).
type block struct{ a, aEnd, b, bEnd int }

// matcher finds what two texts have in common, as difflib.SequenceMatcher does: the longest common block first, then what is before
// and after it.
type matcher struct {
	before, after []string
	// a and b are the lines as numbers; at is where each number occurs in b, without those that are too frequent to tell anything.
	a, b []int
	at   [][]int
	// ending[j+1] is the length of the match that ends at line j of after and the line of before that is looked at; above are the j
	// that have one.
	ending []int
	above  []int
	// spent is the work so far.
	spent int
}

func newMatcher(before, after []string) *matcher {
	m := &matcher{before: before, after: after}
	ids := map[string]int{}
	number := func(lines []string) []int {
		out := make([]int, len(lines))
		for i, line := range lines {
			id, ok := ids[line]
			if !ok {
				id = len(ids)
				ids[line] = id
			}
			out[i] = id
		}
		return out
	}
	m.a, m.b = number(before), number(after)
	m.ending = make([]int, len(m.b)+1)
	m.at = make([][]int, len(ids))
	for j, id := range m.b {
		m.at[id] = append(m.at[id], j)
	}
	if n := len(m.b); n >= 200 {
		for id := range m.at {
			if len(m.at[id]) > n/100+1 {
				m.at[id] = nil
			}
		}
	}
	return m
}

// longest is the longest common block inside a range; of those, the one that is first in before, then in after.
func (m *matcher) longest(r block) block {
	best := block{r.a, r.a, r.b, r.b}
	for i := r.a; i < r.aEnd && m.spent <= budget; i++ {
		m.spent++
		at := m.at[m.a[i]]
		first, _ := slices.BinarySearch(at, r.b)
		last, _ := slices.BinarySearch(at, r.bEnd)
		at = at[first:last]
		m.spent += len(at)
		// From the back, so that what is read is of the line above still.
		for _, j := range slices.Backward(at) {
			m.ending[j+1] = m.ending[j] + 1
		}
		for _, j := range at {
			if k := m.ending[j+1]; k > best.aEnd-best.a {
				best = block{i - k + 1, i + 1, j - k + 1, j + 1}
			}
		}
		m.forget(m.above, at)
		m.above = at
	}
	m.forget(m.above, nil)
	m.above = nil
	// Lines that are too frequent count where they continue a match.
	for best.a > r.a && best.b > r.b && m.a[best.a-1] == m.b[best.b-1] {
		best.a, best.b = best.a-1, best.b-1
	}
	for best.aEnd < r.aEnd && best.bEnd < r.bEnd && m.a[best.aEnd] == m.b[best.bEnd] {
		best.aEnd, best.bEnd = best.aEnd+1, best.bEnd+1
	}
	return best
}

// forget takes back the matches of the line above, unless this line has one at the same place. Both are sorted.
func (m *matcher) forget(above, now []int) {
	for _, j := range above {
		for len(now) > 0 && now[0] < j {
			now = now[1:]
		}
		if len(now) == 0 || now[0] != j {
			m.ending[j+1] = 0
		}
	}
}

// hunks are what lies between the common blocks, in order.
func (m *matcher) hunks() []block {
	common, ok := m.common()
	if !ok {
		common = m.ends()
	}
	slices.SortFunc(common, func(x, y block) int { return cmp.Compare(x.a, y.a) })
	var out []block
	var told block
	for _, c := range append(common, block{len(m.a), len(m.a), len(m.b), len(m.b)}) {
		if c.a > told.aEnd || c.b > told.bEnd {
			out = append(out, block{told.aEnd, c.a, told.bEnd, c.b})
		}
		told = c
	}
	return out
}

// common returns the common blocks in no order; false if that is too much work.
func (m *matcher) common() ([]block, bool) {
	var out []block
	todo := []block{{0, len(m.a), 0, len(m.b)}}
	for len(todo) > 0 {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		c := m.longest(r)
		if m.spent > budget {
			return nil, false
		}
		if c.a == c.aEnd {
			continue
		}
		out = append(out, c)
		todo = append(todo, block{r.a, c.a, r.b, c.b}, block{c.aEnd, r.aEnd, c.bEnd, r.bEnd})
	}
	return out, true
}

// ends are the lines that both texts begin and end with.
func (m *matcher) ends() []block {
	from, to := 0, 0
	most := min(len(m.a), len(m.b))
	for from < most && m.a[from] == m.b[from] {
		from++
	}
	for to < most-from && m.a[len(m.a)-1-to] == m.b[len(m.b)-1-to] {
		to++
	}
	return []block{{0, from, 0, from}, {len(m.a) - to, len(m.a), len(m.b) - to, len(m.b)}}
}
