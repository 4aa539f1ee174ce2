package engine

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
)

// How many characters of an output are kept at each end; a hidden one is only bounded against memory.
const (
	visibleHalf = 15_000
	hiddenHalf  = 512 << 10
)

// OpenHands' terminal keeps so many rows of an output, without the prompt: its history and its window. Longer lines take several.
const (
	paneRows    = 10_000 + 1_000 - 12
	paneColumns = 1_000
)

// content is a channel as text: invalid UTF-8 replaced, line ends normalised, trimmed, cut in the middle. Of more than paneRows rows
// only the last ones are in it; then left says how many lines those are, else it is 0. typed is left out where it comes first: the
// terminal shows what is typed. Of a long output only what is needed is read.
func content(c *spool.Channel, half int, typed string) (text string, left int) {
	r := c.Reader()
	defer r.Close()
	from := c.RetainedFrom()
	end, _ := c.End()
	if end-from > paneRows {
		from, left = lastRows(r, from, end)
	}
	// A character has at most 4 bytes, of input too: a line end has 2, an invalid byte makes one of its own.
	limit := uint64(4 * half)
	if end-from <= 2*limit+utf8.UTFMax {
		text := strings.TrimRightFunc(withoutEcho(clean(readAll(r, from, end)), typed), pythonSpace)
		return cutMiddle(text, half), left
	}
	head := firstText(r, from, end, half, typed)
	tail := lastText(r, from+limit, end, half)
	return head + truncated + tail, left
}

// lastRows is where the last paneRows rows of [from, end) begin, and how many lines they are, if there are more; else from and 0.
func lastRows(r *spool.Reader, from, end uint64) (begin uint64, lines int) {
	const piece = 256 << 10
	rows := uint64(0)
	last := end // The end of the line that is being measured.
	for to := end; to > from; {
		at := max(from, to-min(to, piece))
		raw := readAll(r, at, to)
		for i := bytes.LastIndexByte(raw, '\n'); i >= 0; i = bytes.LastIndexByte(raw[:i], '\n') {
			newline := at + uint64(i)
			if newline == end-1 { // The last line's own.
				last = newline
				continue
			}
			rows += rowsOf(last - newline - 1)
			lines++
			if rows >= paneRows {
				return newline + 1, lines
			}
			last = newline
		}
		if open := rowsOf(last - at); rows+open > paneRows {
			return last - (paneRows-rows)*paneColumns, lines + 1
		}
		to = at
	}
	return from, 0
}

func rowsOf(length uint64) uint64 { return max(1, (length+paneColumns-1)/paneColumns) }

// clean makes valid UTF-8 with plain newlines, and no space at the end of a line.
func clean(raw []byte) string {
	text := strings.ToValidUTF8(string(raw), "\uFFFD")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if !strings.Contains(text, " \n") && !strings.Contains(text, "\t\n") {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t")
	}
	return strings.Join(lines, "\n")
}

// readAll reads [from, to); what is no longer kept, or cannot be read, is left out.
func readAll(r *spool.Reader, from, to uint64) []byte {
	all := make([]byte, 0, to-from)
	for from < to {
		n, gap, err := r.ReadAt(all[len(all):len(all)+int(to-from)], from)
		if err != nil || n == 0 && gap == 0 {
			break
		}
		all = all[:len(all)+n]
		from += uint64(n) + gap
	}
	return all
}

// withoutEcho is a text without white space before it, and without what was typed.
func withoutEcho(text, typed string) string {
	text = strings.TrimPrefix(strings.TrimLeftFunc(text, pythonSpace), typed)
	return strings.TrimLeftFunc(text, pythonSpace)
}

// firstText returns the first half characters of [from, end), without white space before them.
func firstText(r *spool.Reader, from, end uint64, half int, typed string) string {
	limit := uint64(4*half) + utf8.UTFMax
	for {
		to := min(end, from+limit)
		text := withoutEcho(clean(readAll(r, from, to)), typed)
		if text != "" || to == end {
			return firstRunes(text, half)
		}
		from = to
	}
}

// lastText returns the last half characters of [from, end), trimmed. Trailing space of any length is skipped piece by piece.
func lastText(r *spool.Reader, from, end uint64, half int) string {
	limit := uint64(4*half) + utf8.UTFMax
	for {
		start := from
		if end-from > limit {
			start = end - limit
		}
		raw := readAll(r, start, end)
		text := strings.TrimRightFunc(clean(trimPartial(raw)), pythonSpace)
		if text != "" || start == from {
			return lastRunes(text, half)
		}
		end = start
	}
}

// trimPartial drops the bytes at the beginning that belong to a character before it.
func trimPartial(raw []byte) []byte {
	for i := 0; i < utf8.UTFMax-1 && len(raw) > 0 && !utf8.RuneStart(raw[0]); i++ {
		raw = raw[1:]
	}
	return raw
}

func cutMiddle(text string, half int) string {
	if len(text) <= 2*half || utf8.RuneCountInString(text) <= 2*half {
		return text
	}
	return firstRunes(text, half) + truncated + lastRunes(text, half)
}

func firstRunes(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

func lastRunes(text string, n int) string {
	at := len(text)
	for ; n > 0 && at > 0; n-- {
		_, size := utf8.DecodeLastRuneInString(text[:at])
		at -= size
	}
	return text[at:]
}
