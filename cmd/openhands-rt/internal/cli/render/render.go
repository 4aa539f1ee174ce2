package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Format is how results are written.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
)

// Printer writes results in the format that was asked for. Not for concurrent use.
type Printer struct {
	Out    io.Writer
	Format Format
	// Now is the clock for ages.
	Now func() time.Time
}

// Message writes m: as indented JSON, or by calling table.
func (p *Printer) Message(m proto.Message, table func() error) error {
	if p.Format != FormatJSON {
		return table()
	}
	raw, err := marshal(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = p.Out.Write(b.Bytes())
	return err
}

// Line writes m, one of many of a stream: as one line of JSON, or by calling text.
func (p *Printer) Line(m proto.Message, text func() error) error {
	if p.Format != FormatJSON {
		return text()
	}
	raw, err := marshal(m)
	if err != nil {
		return err
	}
	_, err = p.Out.Write(append(raw, '\n'))
	return err
}

// Value writes v, which is no message, as indented JSON, or by calling table.
func (p *Printer) Value(v any, table func() error) error {
	if p.Format != FormatJSON {
		return table()
	}
	e := json.NewEncoder(p.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// marshal is protojson without its random white space; empty lists are there, so that scripts can go through them.
func marshal(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Table writes rows under a header, in columns.
func (p *Printer) Table(header []string, rows [][]string) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = Cell(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a buffer takes everything
	return p.lines(&b)
}

// Fields writes names and values, one pair per line; pairs without a value are left out.
func (p *Printer) Fields(pairs ...[2]string) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, pair := range pairs {
		if pair[1] != "" {
			fmt.Fprintf(w, "%s:\t%s\n", pair[0], oneLine(pair[1]))
		}
	}
	_ = w.Flush() // a buffer takes everything
	return p.lines(&b)
}

// lines writes b without the spaces that tabwriter leaves at the ends of lines.
func (p *Printer) lines(b *bytes.Buffer) error {
	var out bytes.Buffer
	for line := range strings.Lines(b.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := p.Out.Write(out.Bytes())
	return err
}

// Text writes a formatted line.
func (p *Printer) Text(format string, args ...any) error {
	_, err := fmt.Fprintf(p.Out, format+"\n", args...)
	return err
}

// Cell makes s fit for a table: one line, a dash for nothing.
func Cell(s string) string {
	if s == "" {
		return "-"
	}
	return oneLine(s)
}

// oneLine replaces what would break a line or reach the terminal as an instruction.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

// Age is how long ago t was, in the largest unit: "5s", "3m", "2h", "4d"; empty without a time.
func (p *Printer) Age(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return Span(p.Now().Sub(t.AsTime()))
}

// Span is d in its largest unit.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// Enum is the name of an enum's value without its prefix, in lower case: "running" for PHASE_RUNNING.
func Enum(name, prefix string) string {
	name = strings.TrimPrefix(name, prefix)
	if name == "UNSPECIFIED" {
		return ""
	}
	return strings.ToLower(name)
}

// Time is t in UTC to the second; empty without a time.
func Time(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}
