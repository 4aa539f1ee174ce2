package logging

import (
	"bytes"
	"io"
)

// masked is shown instead of a secret.
const masked = "(masked)"

// telling are the ends of names whose values are masked, in lower case.
func telling() [][]byte {
	return [][]byte{
		[]byte("authorization"), []byte("api_key"), []byte("api-key"), []byte("apikey"), []byte("password"), []byte("passwd"),
		[]byte("secret"), []byte("credential"), []byte("token"), []byte("session_key"), []byte("private_key"),
	}
}

// masker replaces the values of telling names ("token=...", "token":"...") in each line that passes. hclog writes a line at a time.
type masker struct{ to io.Writer }

// Write passes p on, masked, and reports all of p as written.
func (m *masker) Write(p []byte) (int, error) {
	if _, err := m.to.Write(mask(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// mask returns line itself if there is nothing to hide.
func mask(line []byte) []byte {
	var out []byte
	done := 0 // how much of line is in out
	for at := 0; at < len(line); at++ {
		if line[at] != '=' && line[at] != ':' {
			continue
		}
		quoted, ok := tellingBefore(line[:at])
		if !ok {
			continue
		}
		from, to := valueAfter(line, at+1, quoted)
		if to == from {
			continue
		}
		out = append(append(out, line[done:from]...), masked...)
		done, at = to, to-1
	}
	if out == nil {
		return line
	}
	return append(out, line[done:]...)
}

// tellingBefore reports whether what stands before a separator ends in a telling name, and whether that name is quoted.
func tellingBefore(before []byte) (quoted, ok bool) {
	bare := bytes.TrimRight(before, ` "\`)
	for _, name := range telling() {
		if len(bare) >= len(name) && bytes.EqualFold(bare[len(bare)-len(name):], name) {
			return bytes.IndexByte(before[len(bare):], '"') >= 0, true
		}
	}
	return false, false
}

// valueAfter finds the value that begins at or after at: a quoted text without its quotes, else up to the next delimiter, a scheme
// ("Bearer") included. After a quoted name what is not quoted is no text, and hides nothing.
func valueAfter(line []byte, at int, quotedName bool) (from, to int) {
	for at < len(line) && line[at] == ' ' {
		at++
	}
	slashes := 0
	for at+slashes < len(line) && line[at+slashes] == '\\' {
		slashes++
	}
	if at+slashes < len(line) && line[at+slashes] == '"' {
		from = at + slashes + 1
		return from, endOfQuoted(line, from, slashes)
	}
	if quotedName {
		return at, at
	}
	from = at
	at += schemeAt(line[from:])
	for at < len(line) && bytes.IndexByte([]byte(" \t\r\n,;}]\"&\\"), line[at]) < 0 {
		at++
	}
	return from, at
}

// endOfQuoted returns where a text ends that began with a quote behind so many backslashes: JSON in JSON doubles them and adds
// one at each level, so a quote of the text itself has more, and an escaped backslash before the end a multiple more.
func endOfQuoted(line []byte, at, slashes int) int {
	run := 0
	for ; at < len(line) && line[at] != '\n'; at++ {
		switch {
		case line[at] == '\\':
			run++
			continue
		case line[at] == '"' && run >= slashes && (run-slashes)%(2*(slashes+1)) == 0:
			return at - slashes
		}
		run = 0
	}
	return at
}

// schemeAt returns the length of an authorization scheme with its space, 0 if there is none.
func schemeAt(text []byte) int {
	for _, scheme := range []string{"bearer ", "basic "} {
		if len(text) >= len(scheme) && bytes.EqualFold(text[:len(scheme)], []byte(scheme)) {
			return len(scheme)
		}
	}
	return 0
}
