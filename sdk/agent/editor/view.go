package editor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent/editor/charset"
)

func (e *Editor) view(ctx context.Context, c command, at *unix.Stat_t) (edited, error) {
	ranged := c.lines != nil || c.badLines != ""
	if isDir(at) {
		if ranged {
			return edited{}, invalid("view_range", c.rangeText(), "The `view_range` parameter is not allowed when `path` points to a directory.")
		}
		out, err := e.list(ctx, c.path)
		return edited{output: out}, err
	}
	if converted(c.path) {
		out, err := e.convert(c.path)
		return edited{output: out}, err
	}
	text, _, err := e.text(c.path)
	if err != nil {
		return edited{}, err
	}
	if !ranged {
		return edited{output: numbered(text, c.path, 1)}, nil
	}
	out, err := viewRange(c, text)
	return edited{output: out}, err
}

// rangeText is the range as Python prints it.
func (c command) rangeText() string {
	if c.badLines != "" {
		return c.badLines
	}
	return integers(c.lines[:])
}

func viewRange(c command, text string) (string, error) {
	if c.lines == nil {
		return "", invalid("view_range", c.badLines, "It should be a list of two integers.")
	}
	start, end, n := c.lines[0], c.lines[1], count(text)
	if start < 1 || start > n {
		return "", invalid("view_range", c.rangeText(), fmt.Sprintf(
			"Its first element `%d` should be within the range of lines of the file: [1, %d].", start, n))
	}
	note := ""
	switch {
	case end == -1:
		end = n
	case end > n:
		end = n
		note = fmt.Sprintf("NOTE: We only show up to %d since there're only %d lines in this file.\n", n, n)
	}
	if end < start {
		return "", invalid("view_range", integers([]int{start, end}), fmt.Sprintf(
			"Its second element `%d` should be greater than or equal to the first element `%d`.", end, start))
	}
	lines := splitLines(strings.Join(strings.SplitAfter(text, "\n")[start-1:end], ""))
	return note + numbered(strings.Join(lines, "\n"), c.path, start), nil
}

// text reads a file that can be shown or edited, with newlines alone for line ends, and how it is encoded.
func (e *Editor) text(path string) (string, charset.Codec, error) {
	data, err := e.files.read(path)
	if err != nil {
		return "", charset.Codec{}, unreadable(path, err)
	}
	if charset.Binary(data) {
		return "", charset.Codec{}, unfit(path, "File appears to be binary and this file type cannot be read or edited by this tool.")
	}
	codec := charset.Detect(data)
	text, err := codec.Decode(data)
	if err != nil {
		return "", codec, refusal("Ran into " + err.Error() + " while trying to read " + path)
	}
	return newlines(text), codec, nil
}

func unreadable(path string, err error) error {
	if large, ok := errors.AsType[tooLarge](err); ok {
		return unfit(path, large.Error())
	}
	if errors.Is(err, errSpecial) {
		return unfit(path, "It is not a regular file and cannot be read or edited by this tool.")
	}
	return refusal("Ran into " + osError(err, path) + " while trying to read " + path)
}

// convert shows a document as Markdown.
func (e *Editor) convert(path string) (string, error) {
	return "", unfit(path, "Files of type "+strconv.Quote(suffix(path))+" cannot be converted to Markdown here. Please use Python libraries to read it.")
}
