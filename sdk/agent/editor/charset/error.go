package charset

import (
	"fmt"
	"unicode/utf8"
)

// Error is a text that cannot be decoded or encoded.
type Error struct{ text string }

// Error returns what Python says.
func (e *Error) Error() string { return e.text }

// CheckUTF8 returns nil for valid UTF-8, else the error of Python's decoder.
func CheckUTF8(data []byte) error {
	for at := 0; at < len(data); {
		if data[at] < utf8.RuneSelf {
			at++
			continue
		}
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return badUTF8(data, at)
		}
		at += size
	}
	return nil
}

// badUTF8 describes the sequence at a position that is no character.
func badUTF8(data []byte, at int) error {
	need, valid := sequence(data[at:])
	reason := "invalid continuation byte"
	switch {
	case need == 0:
		reason = "invalid start byte"
	case at+valid == len(data):
		reason = "unexpected end of data"
	}
	if valid > 1 {
		return &Error{text: fmt.Sprintf("'utf-8' codec can't decode bytes in position %d-%d: %s", at, at+valid-1, reason)}
	}
	return &Error{text: fmt.Sprintf("'utf-8' codec can't decode byte 0x%02x in position %d: %s", data[at], at, reason)}
}

// sequence returns how many bytes the sequence should have, 0 for none that can begin so, and how many of them can be part of it.
func sequence(p []byte) (need, valid int) {
	low, high := byte(0x80), byte(0xbf)
	switch c := p[0]; {
	case c >= 0xc2 && c <= 0xdf:
		need = 2
	case c >= 0xe0 && c <= 0xef:
		need = 3
	case c >= 0xf0 && c <= 0xf4:
		need = 4
	default:
		return 0, 1
	}
	switch p[0] {
	case 0xe0:
		low = 0xa0
	case 0xed:
		high = 0x9f
	case 0xf0:
		low = 0x90
	case 0xf4:
		high = 0x8f
	}
	for valid = 1; valid < need && valid < len(p) && p[valid] >= low && p[valid] <= high; valid++ {
		low, high = 0x80, 0xbf
	}
	return need, valid
}

// cannotEncode describes the first character that the encoding does not have.
func (c Codec) cannotEncode(text string) error {
	at := 0
	for _, r := range text {
		if _, err := c.enc.NewEncoder().String(string(r)); err != nil {
			return &Error{text: fmt.Sprintf("'%s' codec can't encode character %s in position %d: illegal multibyte sequence",
				c.Name(), escaped(r), at)}
		}
		at++
	}
	return &Error{text: fmt.Sprintf("'%s' codec can't encode the text", c.Name())}
}

func escaped(r rune) string {
	switch {
	case r < 0x100:
		return fmt.Sprintf(`'\x%02x'`, r)
	case r < 0x10000:
		return fmt.Sprintf(`'\u%04x'`, r)
	}
	return fmt.Sprintf(`'\U%08x'`, r)
}
