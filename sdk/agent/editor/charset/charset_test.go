package charset

import (
	"bytes"
	"strings"
	"testing"
)

func TestBinary(t *testing.T) {
	for name, c := range map[string]struct {
		head string
		want bool
	}{
		"empty": {"", false}, "ASCII": {"hello\n", false}, "control characters": {"\x00\x01\x02\x03\x04\x05\x06\x07\x0b\x0e", true},
		"a NUL": {"text\x00text", true}, "UTF-8": {"caf\u00e9\n", false}, "one byte of Latin-1": {"caf\xe9\n", false},
		"UTF-16 with a mark": {"\xff\xfeh\x00i\x00", false}, "PNG": {"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00", true},
		"Chinese that is cut": {strings.Repeat("\u4e2d", 400)[:HeadSize], false},
	} {
		if got := Binary([]byte(c.head)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestErrorsReadAsPythons(t *testing.T) {
	for in, want := range map[string]string{
		"ab\xff":         "'utf-8' codec can't decode byte 0xff in position 2: invalid start byte",
		"caf\xe9 ok":     "'utf-8' codec can't decode byte 0xe9 in position 3: invalid continuation byte",
		"x\xe4\xb8":      "'utf-8' codec can't decode bytes in position 1-2: unexpected end of data",
		"x\xe4":          "'utf-8' codec can't decode byte 0xe4 in position 1: unexpected end of data",
		"\xf0\x9f\x98 x": "'utf-8' codec can't decode bytes in position 0-2: invalid continuation byte",
		"\xed\xa0\x80":   "'utf-8' codec can't decode byte 0xed in position 0: invalid continuation byte",
	} {
		if err := CheckUTF8([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

// FuzzDetect checks the promise that what is taken for an encoding holds every byte.
func FuzzDetect(f *testing.F) {
	f.Add([]byte("caf\xe9"))
	f.Add([]byte("\xff\xfeh\x00i\x00"))
	f.Add([]byte(strings.Repeat("\xcf\xf0\xe8\xe2\xe5\xf2 \xec\xe8\xf0. ", 9)))
	f.Fuzz(func(t *testing.T, data []byte) {
		Binary(data)
		c := Detect(data)
		text, err := c.Decode(data)
		if err != nil {
			if c.Name() != "utf-8" {
				t.Errorf("%s was detected and cannot be read: %v", c.Name(), err)
			}
			return
		}
		if again, err := c.Encode(text); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: %q became %q (%v)", c.Name(), data, again, err)
		}
	})
}
