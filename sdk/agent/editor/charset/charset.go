// Package charset finds out how the text of a file is encoded, and whether it is text at all, by the rules of OpenHands' editor. What
// is taken for an encoding holds every byte of the file: text that is not touched is written back as it was.
//
// sdk/agent/editor imports it.
package charset

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/wlynxg/chardet"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

const (
	// sample is how much of a file a guess is made from.
	sample = 1 << 20
	// sure is the confidence above which a guess is taken; below it is UTF-8.
	sure = 0.9
)

// Codec is an encoding of text. The zero value is UTF-8.
type Codec struct {
	// name is Python's, for messages.
	name string
	// mark is the byte order mark that the text is written with.
	mark []byte
	enc  encoding.Encoding
}

// Name returns the name of the encoding as Python spells it.
func (c Codec) Name() string {
	if c.name == "" {
		return "utf-8"
	}
	return c.name
}

// Detect guesses the encoding of a file's bytes: UTF-8 unless another one is sure and holds them.
func Detect(data []byte) Codec {
	if c, ok := marked(data); ok {
		return c
	}
	if utf8.Valid(data) {
		return Codec{}
	}
	r := chardet.Detect(data[:min(len(data), sample)])
	if r.Confidence <= sure {
		return Codec{}
	}
	c, ok := named(r.Encoding)
	if !ok {
		return Codec{}
	}
	if text, err := c.Decode(data); err != nil || !c.holds(text, data) {
		return Codec{}
	}
	return c
}

// holds reports whether text becomes exactly data again.
func (c Codec) holds(text string, data []byte) bool {
	again, err := c.Encode(text)
	return err == nil && bytes.Equal(again, data)
}

// marked is the encoding that a byte order mark tells.
func marked(data []byte) (Codec, bool) {
	for _, c := range []Codec{
		{name: "utf-8-sig", mark: []byte("\xef\xbb\xbf")},
		{name: "utf-32", mark: []byte("\xff\xfe\x00\x00"), enc: utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM)},
		{name: "utf-32", mark: []byte("\x00\x00\xfe\xff"), enc: utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)},
		{name: "utf-16", mark: []byte("\xff\xfe"), enc: unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)},
		{name: "utf-16", mark: []byte("\xfe\xff"), enc: unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)},
	} {
		if bytes.HasPrefix(data, c.mark) {
			if text, err := c.Decode(data); err == nil && c.holds(text, data) {
				return c, true
			}
		}
	}
	return Codec{}, false
}

// named is the encoding of a name that the detection uses. A larger set stands for one that it contains.
func named(name string) (Codec, bool) {
	lower := strings.ToLower(name)
	known := map[string]encoding.Encoding{
		"gb2312": simplifiedchinese.GB18030, "gb18030": simplifiedchinese.GB18030, "big5": traditionalchinese.Big5,
		"shift_jis": japanese.ShiftJIS, "cp932": japanese.ShiftJIS, "euc-jp": japanese.EUCJP, "euc-kr": korean.EUCKR, "cp949": korean.EUCKR,
		"koi8-r": charmap.KOI8R, "ibm855": charmap.CodePage855, "ibm866": charmap.CodePage866, "tis-620": charmap.Windows874,
		"maccyrillic": charmap.MacintoshCyrillic, "macroman": charmap.Macintosh,
		"windows-1250": charmap.Windows1250, "windows-1251": charmap.Windows1251, "windows-1252": charmap.Windows1252,
		"windows-1253": charmap.Windows1253, "windows-1254": charmap.Windows1254, "windows-1255": charmap.Windows1255,
		"windows-1256": charmap.Windows1256, "windows-1257": charmap.Windows1257,
		"iso-8859-1": charmap.ISO8859_1, "iso-8859-2": charmap.ISO8859_2, "iso-8859-5": charmap.ISO8859_5,
		"iso-8859-6": charmap.ISO8859_6, "iso-8859-7": charmap.ISO8859_7, "iso-8859-8": charmap.ISO8859_8,
		"iso-8859-9": charmap.ISO8859_9, "iso-8859-13": charmap.ISO8859_13,
	}
	enc, ok := known[lower]
	return Codec{name: lower, enc: enc}, ok
}

// Decode returns the text of data. The error reads as Python's.
func (c Codec) Decode(data []byte) (string, error) {
	data = bytes.TrimPrefix(data, c.mark)
	if c.enc == nil {
		if err := CheckUTF8(data); err != nil {
			return "", err
		}
		return string(data), nil
	}
	text, err := c.enc.NewDecoder().Bytes(data)
	if err != nil || bytes.ContainsRune(text, utf8.RuneError) {
		return "", &Error{text: "'" + c.Name() + "' codec can't decode the file: illegal sequence"}
	}
	return string(text), nil
}

// Encode returns the bytes of text, with the byte order mark if there was one. It fails for a character that the encoding does not
// have; the error reads as Python's.
func (c Codec) Encode(text string) ([]byte, error) {
	if c.enc == nil {
		return append(bytes.Clone(c.mark), text...), nil
	}
	raw, err := c.enc.NewEncoder().Bytes([]byte(text))
	if err != nil {
		return nil, c.cannotEncode(text)
	}
	return append(bytes.Clone(c.mark), raw...), nil
}
