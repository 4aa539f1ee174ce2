package editor

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// writeMode is that of the files that a write action makes.
const writeMode = 0o664

// write does a write action.
func (e *Editor) write(_ context.Context, a *action.Write, cwd func() string) ([]byte, error) {
	name := resolve(cwd(), a.Path)
	if err := e.files.space.MakeDirs(path.Dir(name)); err != nil {
		return nil, failure(err, name)
	}
	lines := strings.SplitAfter(a.Content+"\n", "\n")
	old, err := e.files.read(name)
	_, isLarge := errors.AsType[tooLarge](err)
	switch {
	case isLarge && a.Start == 0 && a.End == -1: // Nothing of it is kept.
	case err == nil && !utf8.Valid(old):
		return action.ErrorObservation("File could not be decoded as utf-8: " + name), nil
	case err == nil:
		lines = spliced(strings.SplitAfter(newlines(string(old)), "\n"), lines, a.Start, a.End)
	case !errors.Is(err, fs.ErrNotExist):
		return writeFailed(name, err)
	}
	if err := e.files.write(name, []byte(strings.Join(lines, "")), writeMode, true); err != nil {
		return writeFailed(name, err)
	}
	return writeObservation(name), nil
}

// spliced are lines with those from start to end replaced, counted from the end where a number is negative, as Python's slices are. From
// 0 is from the beginning, to -1 is to the end.
func spliced(lines, replacement []string, start, end int) []string {
	n := len(lines)
	if lines[n-1] == "" {
		n--
	}
	lines = lines[:n]
	var out []string
	if start != 0 {
		out = append(out, lines[:pythonIndex(start, n)]...)
	}
	out = append(out, replacement...)
	if end != -1 {
		out = append(out, lines[pythonIndex(end, n):]...)
	}
	return out
}

func pythonIndex(i, n int) int {
	if i < 0 {
		i += n
	}
	return min(max(i, 0), n)
}

// writeFailed tells what kept a file from being written. What the original does not catch is no observation.
func writeFailed(name string, err error) ([]byte, error) {
	large, isLarge := errors.AsType[tooLarge](err)
	switch {
	case isLarge:
		return action.ErrorObservation(large.Error()), nil
	case errors.Is(err, fs.ErrNotExist):
		return action.ErrorObservation("File not found: " + name), nil
	case errors.Is(err, unix.EISDIR):
		return action.ErrorObservation("Path is a directory: " + name + ". You can only write to files"), nil
	case errors.Is(err, errSpecial):
		return action.ErrorObservation("Path is not a regular file: " + name + ". You can only write to files"), nil
	}
	return nil, failure(err, name)
}
