package charset

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/wlynxg/chardet"
)

// HeadSize is how much of the beginning of a file Binary looks at, in bytes.
const HeadSize = 1024

// Binary reports whether the beginning of a file is not text, by the rule of binaryornot 0.4. A character that the end of head cuts is
// no sign of binary content, as it is there.
func Binary(head []byte) bool {
	head = head[:min(len(head), HeadSize)]
	if len(head) == 0 {
		return false
	}
	var control, high int
	for _, b := range head {
		switch {
		case b >= 0x7f:
			high++
		case b < 0x20 && strings.IndexByte("\n\r\t\f\b", b) < 0:
			control++
		}
	}
	// The shares of bytes that are not printable ASCII, and that are not of the upper half.
	notASCII := float64(control+high) / float64(len(head))
	notHigh := float64(len(head)-high) / float64(len(head))
	if notASCII > 0.9 && notHigh > 0.9 {
		return true
	}
	likely := notASCII > 0.3 && notHigh < 0.05 || notASCII > 0.8 && notHigh > 0.8
	if likely {
		return !decodable(head)
	}
	return (bytes.IndexByte(head, 0) >= 0 || bytes.IndexByte(head, 0xff) >= 0) && !decodable(head)
}

// decodable reports whether head is surely text of an encoding other than ASCII.
func decodable(head []byte) bool {
	if _, ok := marked(whole(head)); ok {
		return true
	}
	r := chardet.Detect(head)
	if r.Confidence <= sure || r.Encoding == "ascii" || r.Encoding == "Ascii" {
		return false
	}
	if r.Encoding == "utf-8" || r.Encoding == "UTF-8" {
		return utf8.Valid(whole(head))
	}
	c, ok := named(r.Encoding)
	if !ok {
		return false
	}
	for cut := range 4 {
		if _, err := c.Decode(head[:len(head)-min(cut, len(head))]); err == nil {
			return true
		}
		if len(head) < HeadSize {
			return false
		}
	}
	return false
}

// whole is head without a character that its end cuts.
func whole(head []byte) []byte {
	if len(head) < HeadSize {
		return head
	}
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		return head[:len(head)&^3]
	}
	for i := 1; i < utf8.UTFMax && i < len(head); i++ {
		if at := len(head) - i; utf8.RuneStart(head[at]) {
			if !utf8.FullRune(head[at:]) {
				return head[:at]
			}
			break
		}
	}
	return head
}
