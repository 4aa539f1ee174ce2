package editor

import (
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/agent/editor/charset"
)

const review = "Review the changes and make sure they are as expected"

func (e *Editor) create(c command) (edited, error) {
	if c.fileText == nil {
		return edited{}, missing("file_text", c.name)
	}
	if err := e.save(c.path, *c.fileText, charset.Codec{}); err != nil {
		return edited{}, err
	}
	e.remember(c.path, *c.fileText)
	return edited{output: "File created successfully at: " + c.path, after: *c.fileText}, nil
}

// save writes a text. It is encoded before the file is touched.
func (e *Editor) save(path, text string, codec charset.Codec) error {
	data, err := codec.Encode(text)
	if err == nil {
		if err = e.files.write(path, data, 0o666, false); err == nil {
			return nil
		}
		err = refusal(osError(err, path))
	}
	return refusal("Ran into " + err.Error() + " while trying to write to " + path)
}

// remember keeps a text for undo_edit. Without room for it, the edit is done all the same.
func (e *Editor) remember(path, text string) {
	if err := e.history.push(path, text); err != nil {
		e.log.Warn("an edit cannot be undone", "error", err)
	}
}

func (e *Editor) replace(c command) (edited, error) {
	switch {
	case c.oldStr == nil:
		return edited{}, missing("old_str", c.name)
	case c.newStr != nil && *c.newStr == *c.oldStr:
		return edited{}, invalid("new_str", *c.newStr, "No replacement was performed. `new_str` and `old_str` must be different.")
	}
	text, codec, err := e.text(c.path)
	if err != nil {
		return edited{}, err
	}
	was, is := *c.oldStr, ""
	if c.newStr != nil {
		is = *c.newStr
	}
	at := search(text, was)
	if at == nil {
		was, is = strip(was), strip(is)
		at = search(text, was)
	}
	switch {
	case at == nil:
		return edited{}, refusal("No replacement was performed, old_str `" + was + "` did not appear verbatim in " + c.path + ".")
	case at.many:
		return edited{}, refusal("No replacement was performed. Multiple occurrences of old_str `" + was + "` in lines " +
			integers(at.lines) + ". Please ensure it is unique.")
	}
	after := text[:at.first] + is + text[at.first+len(was):]
	if err := e.save(c.path, after, codec); err != nil {
		return edited{}, err
	}
	e.remember(c.path, text)
	line := strings.Count(text[:at.first], "\n") + 1
	from := max(0, line-snippetContext)
	snippet := slice(strings.SplitAfter(newlines(after), "\n"), from, line+snippetContext+strings.Count(is, "\n"))
	return edited{output: "The file " + c.path + " has been edited. " +
		numbered(strings.Join(snippet, ""), "a snippet of "+c.path, from+1) + review + ". Edit the file again if necessary.",
		before: text, after: after}, nil
}

// found is where a text has a piece.
type found struct {
	// first is the offset of the first place, many whether there are more.
	first int
	many  bool
	// lines are the numbers of the lines in which a place begins, each once; not more than maxPlaces.
	lines []int
}

// maxPlaces is how many lines are named to those whose piece is not unique.
const maxPlaces = 100_000

// search finds a piece, without overlaps; nil if it is not there. The empty piece is between all characters.
func search(text, piece string) *found {
	if piece == "" {
		return &found{many: text != "", lines: upTo(min(strings.Count(text, "\n")+1, maxPlaces))}
	}
	var f *found
	line, counted := 1, 0
	for from := 0; ; {
		i := strings.Index(text[from:], piece)
		if i < 0 {
			return f
		}
		i += from
		from = i + len(piece)
		line += strings.Count(text[counted:i], "\n")
		counted = i
		if f == nil {
			f = &found{first: i, lines: []int{line}}
			continue
		}
		f.many = true
		if f.lines[len(f.lines)-1] != line && len(f.lines) < maxPlaces {
			f.lines = append(f.lines, line)
		}
	}
}

// upTo are the numbers from 1 to n.
func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i + 1
	}
	return out
}

func (e *Editor) insert(c command) (edited, error) {
	switch {
	case c.insertLine == nil:
		return edited{}, missing("insert_line", c.name)
	case c.newStr == nil:
		return edited{}, missing("new_str", c.name)
	}
	text, codec, err := e.text(c.path)
	if err != nil {
		return edited{}, err
	}
	at, n := *c.insertLine, count(text)
	if at < 0 || at > n {
		return edited{}, invalid("insert_line", strconv.Itoa(at), "It should be within the range of allowed values: "+integers([]int{0, n}))
	}
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	added := strings.Split(*c.newStr, "\n")
	before, behind := strings.Join(lines[:at], ""), strings.Join(lines[at:], "")
	after := before + strings.Join(added, "\n") + "\n" + behind
	if err := e.save(c.path, after, codec); err != nil {
		return edited{}, err
	}
	e.remember(c.path, text)
	shown := newlines(after)
	window := slice(strings.SplitAfter(shown, "\n"), at-snippetContext, min(n, at+snippetContext)+len(added))
	return edited{output: "The file " + c.path + " has been edited. " +
		numbered(strings.Join(window, ""), "a snippet of the edited file", max(1, at-snippetContext+1)) + review +
		" (correct indentation, no duplicate lines, etc). Edit the file again if necessary.", before: text, after: shown}, nil
}

func (e *Editor) undo(c command) (edited, error) {
	text, codec, err := e.text(c.path)
	if err != nil {
		return edited{}, err
	}
	before, found, err := e.history.last(c.path)
	if err != nil {
		return edited{}, refusal("Ran into " + err.Error() + " while trying to read the edit history of " + c.path)
	}
	if !found {
		return edited{}, refusal("No edit history found for " + c.path + ".")
	}
	if err := e.save(c.path, before, codec); err != nil {
		return edited{}, err
	}
	e.history.drop(c.path)
	return edited{output: "Last edit to " + c.path + " undone successfully. " + numbered(before, c.path, 1), before: text, after: before}, nil
}
