package workspace

import (
	"strings"
	"unicode/utf8"
)

// quote returns s as one word for bash, on one line, in which nothing is expanded: neither $, nor back-ticks, nor ! (which a plain
// single-quoted word has not to fear either), and no byte is lost, valid UTF-8 or not. s must not hold NUL.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, special) && utf8.ValidString(s) {
		return s
	}
	if !strings.ContainsFunc(s, unprintable) && utf8.ValidString(s) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c < ' ' || c >= 0x7f:
			// Three octal digits end by themselves, whatever follows.
			b.WriteByte('\\')
			b.WriteByte('0' + c>>6)
			b.WriteByte('0' + c>>3&7)
			b.WriteByte('0' + c&7)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// special is what may mean something to a shell somewhere.
func special(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_-./:@%+,", c))
}

// unprintable is what must not stand in a line.
func unprintable(c rune) bool {
	return c < ' ' || c == 0x7f || c == '\u0085' || c == '\u2028' || c == '\u2029'
}
