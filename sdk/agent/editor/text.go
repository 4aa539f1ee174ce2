package editor

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The notices that follow what was cut.
const (
	clipped   = "<response clipped><NOTE>Due to the max output limit, only part of "
	clipFile  = clipped + "this file has been shown to you. You should retry this tool after you have searched inside the file with `grep -n` in order to find the line numbers of what you are looking for.</NOTE>" //nolint:lll // one text
	clipOther = clipped + "this file has been shown to you. Please use Python libraries to view the entire file or search for specific content within the file.</NOTE>"                                              //nolint:lll // one text
	clipDir   = clipped + "this directory has been shown to you. You should use `ls -la` instead to view large directories incrementally.</NOTE>"
)

// clip cuts a text to what is shown at most.
func clip(text, notice string) string {
	if len(text) <= maxResponse || utf8.RuneCountInString(text) <= maxResponse {
		return text
	}
	n := 0
	for i := range text {
		if n == maxResponse {
			return text[:i] + notice
		}
		n++
	}
	return text
}

// numbered shows a text as cat -n does; first is the number of its first line.
func numbered(text, description string, first int) string {
	var b strings.Builder
	b.WriteString("Here's the result of running `cat -n` on " + description + ":\n")
	for line := range strings.SplitSeq(clip(text, clipFile), "\n") {
		fmt.Fprintf(&b, "%6d\t%s\n", first, line)
		first++
	}
	return b.String()
}

// newlines makes every line end a newline, as reading in text mode does.
func newlines(text string) string {
	if !strings.Contains(text, "\r") {
		return text
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
}

// count is the number of lines; what follows the last newline is one if there is anything.
func count(text string) int {
	n := strings.Count(text, "\n")
	if text != "" && !strings.HasSuffix(text, "\n") {
		n++
	}
	return n
}

// slice is part of a list of lines by bounds that may lie outside of it.
func slice(lines []string, from, to int) []string {
	from, to = min(max(from, 0), len(lines)), min(max(to, 0), len(lines))
	if from >= to {
		return nil
	}
	return lines[from:to]
}
