package engine

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/spool"
)

// How many characters of an output are kept at each end; a hidden one is only bounded against memory.
const (
	visibleHalf = 15_000
	hiddenHalf  = 512 << 10
)

// content is a channel as text: invalid UTF-8 replaced, line ends normalised, right-trimmed, cut in the middle. Of a long
// output only its two ends are read.
func content(c *spool.Channel, half int) string {
	r := c.Reader()
	defer r.Close()
	from := c.RetainedFrom()
	end, _ := c.End()
	// A character has at most 4 bytes, of input too: a line end has 2, an invalid byte makes one of its own.
	limit := uint64(4 * half)
	if end-from <= 2*limit+utf8.UTFMax {
		text := strings.TrimRightFunc(clean(readAll(r, from, end)), unicode.IsSpace)
		return cutMiddle(text, half)
	}
	head := firstRunes(clean(readAll(r, from, from+limit)), half)
	tail := lastText(r, from+limit, end, half)
	return head + truncated + tail
}

// clean makes valid UTF-8 with plain newlines.
func clean(raw []byte) string {
	text := strings.ToValidUTF8(string(raw), "\uFFFD")
	return strings.ReplaceAll(text, "\r\n", "\n")
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

// lastText returns the last half characters of [from, end), trimmed. Trailing space of any length is skipped piece by piece.
func lastText(r *spool.Reader, from, end uint64, half int) string {
	limit := uint64(4*half) + utf8.UTFMax
	for {
		start := from
		if end-from > limit {
			start = end - limit
		}
		raw := readAll(r, start, end)
		text := strings.TrimRightFunc(clean(trimPartial(raw)), unicode.IsSpace)
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
