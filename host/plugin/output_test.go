package plugin

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"
)

func TestParseLine(t *testing.T) {
	for _, c := range []struct {
		line   string
		level  hclog.Level
		text   string
		fields string
		panics bool
	}{
		{`{"@level":"debug","@message":"hi","@module":"m","b":1,"a":"x"}`, hclog.Debug, "hi", "module=m a=x b=1", false},
		{`{"@message":5,"@level":[],"k":{"z":null}}`, hclog.Info, "5", `k={"z":null}`, false},
		{`{"@message":"off","@level":"off"}`, hclog.Info, "off", "", false},
		{`{"msg":"other"}`, hclog.Warn, `{"msg":"other"}`, "", false},
		{`{"@message":"cut`, hclog.Warn, `{"@message":"cut`, "", false},
		{"plain", hclog.Warn, "plain", "", false},
		{"[DEBUG] old style", hclog.Debug, "[DEBUG] old style", "", false},
		{"", hclog.Warn, "", "", false},
		{"panic: boom", hclog.Error, "panic: boom", "", true},
		{"fatal error: all goroutines are asleep", hclog.Error, "fatal error: all goroutines are asleep", "", true},
		{"SIGSEGV: segmentation violation", hclog.Error, "SIGSEGV: segmentation violation", "", true},
		{"\x1b[31mred\xff", hclog.Warn, "\ufffd[31mred\ufffd", "", false},
	} {
		e := parseLine([]byte(c.line))
		var fields []string
		for i := 0; i+1 < len(e.fields); i += 2 {
			fields = append(fields, e.fields[i].(string)+"="+e.fields[i+1].(string))
		}
		if e.level != c.level || e.text != c.text || strings.Join(fields, " ") != c.fields || e.panics != c.panics {
			t.Errorf("%q: %+v", c.line, e)
		}
	}
	many := `{"@message":"m"`
	for i := range 100 {
		many += `,"k` + strings.Repeat("x", i) + `":1`
	}
	if e := parseLine([]byte(many + "}")); len(e.fields) != 2*maxFields+2 {
		t.Errorf("%d fields", len(e.fields))
	}
}

func FuzzParseLine(f *testing.F) {
	for _, seed := range []string{
		`{"@message":5,"@level":{},"@timestamp":[]}`, `{"@message":"m","@level":"info","@module":7,"k":[1]}`, "panic: x", "\xff\x00", `{"@message"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		e := parseLine(line)
		if e.level < hclog.Trace || e.level > hclog.Error || len(e.fields)%2 != 0 || len(e.fields) > 2*maxFields+4 {
			t.Errorf("%+v", e)
		}
		text := e.String()
		if !utf8.ValidString(text) {
			t.Errorf("not UTF-8: %q", text)
		}
		for _, r := range text {
			if unicode.IsControl(r) && r != '\t' && r != '\n' {
				t.Errorf("control character in %q", text)
			}
		}
	})
}

type takenLine struct {
	text string
	cut  int
}

func taken(r io.Reader) ([]takenLine, error) {
	var lines []takenLine
	err := readLines(r, func(line []byte, cut int) { lines = append(lines, takenLine{string(line), cut}) })
	return lines, err
}

func TestReadLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	in := "a\n\n" + long + "yz\n" + long + "\nend"
	want := []takenLine{{"a", 0}, {"", 0}, {long, 2}, {long, 0}, {"end", 0}}
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "bytes": iotest.OneByteReader(strings.NewReader(in))} {
		got, err := taken(r)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %d lines, %v", name, len(got), err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: line %d: %d bytes, %d cut", name, i, len(got[i].text), got[i].cut)
			}
		}
	}
	broken := errors.New("broken")
	got, err := taken(io.MultiReader(strings.NewReader("part"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || len(got) != 1 || got[0].text != "part" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReadLinesLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.SampledFrom([]byte("ab\n"))).Draw(t, "in")
		if n := rapid.IntRange(0, 3).Draw(t, "long"); n > 0 {
			in = append(in, bytes.Repeat([]byte("l"), n*maxLine/2)...)
		}
		got, err := taken(iotest.HalfReader(bytes.NewReader(in)))
		if err != nil {
			t.Fatal(err)
		}
		total := bytes.Count(in, []byte("\n"))
		for _, l := range got {
			total += len(l.text) + l.cut
		}
		if total != len(in) {
			t.Fatalf("%d bytes of %d", total, len(in))
		}
	})
}

func TestTailKeepsTheLastBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tl tail
		var all []string
		for _, n := range rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 50), rapid.IntRange(0, tailSize/3)), 1, 60).Draw(t, "sizes") {
			line := strings.Repeat(string(rune('a'+len(all)%26))+"é", n/3)
			all = append(all, line)
			tl.add(line)
		}
		lines := tl.lines()
		size := len(strings.Join(lines, "\n")) + 1
		if size != tl.size || size > tailSize+1 || len(lines) == 0 || len(tl.kept) > 2*len(lines)+1 {
			t.Fatalf("size %d of %d, %d lines in %d", size, tl.size, len(lines), len(tl.kept))
		}
		if !slices.Equal(lines, all[len(all)-len(lines):]) {
			t.Fatal("these are not the last lines")
		}
		if more := len(all) - len(lines); more > 0 && size+len(all[more-1])+1 <= tailSize {
			t.Fatal("a line was dropped that would fit")
		}
		last := tl.last(evidenceLines, evidenceSize)
		text := strings.Join(last, "\n")
		if len(last) == 0 || len(last) > evidenceLines || len(text) > evidenceSize {
			t.Fatalf("%d lines, %d bytes", len(last), len(text))
		}
		if len(last) < min(evidenceLines, len(lines)) && len(text) < evidenceSize-2 {
			t.Fatalf("only %d bytes in %d lines", len(text), len(last))
		}
		if !utf8.ValidString(text) {
			t.Fatalf("not UTF-8: %q", text)
		}
	})
}

func TestSinkBoundsTheLogAndKeepsTheTail(t *testing.T) {
	var out bytes.Buffer
	s := newSink(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Trace}))
	line := bytes.Repeat([]byte("x"), 10_000)
	for range 10 * logBurst / len(line) {
		s.line("stderr", line, 0)
	}
	s.line("stderr", []byte("the last"), 0)
	o := s.output()
	if out.Len() > 2*logBurst || o.DroppedLines == 0 || o.DroppedBytes < o.DroppedLines*uint64(len(line)) {
		t.Errorf("%d bytes logged, dropped %d lines, %d bytes", out.Len(), o.DroppedLines, o.DroppedBytes)
	}
	if o.Lines[len(o.Lines)-1] != "the last" {
		t.Error("the tail is not the newest")
	}
	// Once there is room again the log says what it missed.
	s.bucket.SetLimit(1 << 40)
	for !strings.Contains(out.String(), "lines were dropped") {
		s.line("stderr", []byte("more"), 0)
	}
}

func TestPanicTextIsKept(t *testing.T) {
	s := newSink(hclog.NewNullLogger())
	for _, line := range []string{"before", "panic: boom", "", "goroutine 1 [running]:", `{"@message":"log","@level":"info"}`, "main.main()"} {
		s.line("stderr", []byte(line), 0)
	}
	if got := s.output().Panic; got != "panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n" {
		t.Errorf("%q", got)
	}
	for range panicSize {
		s.line("stderr", []byte("more frames"), 0)
	}
	if got := len(s.output().Panic); got > panicSize+1 {
		t.Errorf("%d bytes of panic", got)
	}
}

func TestStreamWriterCutsLines(t *testing.T) {
	s := newSink(hclog.NewNullLogger())
	w := &streamWriter{sink: s, name: "stdout"}
	for _, part := range []string{"a", "b\nc", "\n\n", strings.Repeat("x", maxLine+10), "\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	o := s.output()
	if got := o.Lines; o.DroppedBytes != 10 || got[len(got)-1] != "" {
		t.Errorf("%d lines, %d bytes dropped", len(got), o.DroppedBytes)
	}
}
