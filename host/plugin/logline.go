package plugin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/go-hclog"
)

// entry is one line of a plugin, understood as far as it can be.
type entry struct {
	level      hclog.Level
	text       string
	fields     []any // keys and values in turn, as hclog takes them
	structured bool
	// panics: from here on the plugin prints why it dies.
	panics bool
}

// parseLine never fails: what is not an hclog JSON line is text. Nothing in the line is trusted to have a type.
func parseLine(line []byte) entry {
	if e, ok := parseJSON(line); ok {
		return e
	}
	text := printable(string(line))
	e := entry{level: levelOfText(text), text: text}
	if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") || strings.HasPrefix(text, "SIG") &&
		strings.Contains(text, ": ") {
		e.level, e.panics = hclog.Error, true
	}
	return e
}

// String is the entry as people read it.
func (e entry) String() string {
	if !e.structured {
		return e.text
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s", strings.ToUpper(e.level.String()), e.text)
	for i := 0; i+1 < len(e.fields); i += 2 {
		fmt.Fprintf(&b, " %v=%v", e.fields[i], e.fields[i+1])
	}
	return b.String()
}

func parseJSON(line []byte) (entry, bool) {
	if len(line) == 0 || line[0] != '{' {
		return entry{}, false
	}
	var raw map[string]any
	if json.Unmarshal(line, &raw) != nil {
		return entry{}, false
	}
	message, ok := raw["@message"]
	if !ok {
		return entry{}, false
	}
	level, _ := raw["@level"].(string)
	e := entry{level: hclog.LevelFromString(level), text: printable(textOf(message)), structured: true}
	if e.level == hclog.NoLevel || e.level == hclog.Off {
		e.level = hclog.Info
	}
	if module, ok := raw["@module"]; ok {
		e.fields = append(e.fields, "module", printable(textOf(module)))
	}
	e.fields = append(e.fields, fieldsOf(raw)...)
	return e, true
}

func fieldsOf(raw map[string]any) []any {
	keys := make([]string, 0, len(raw))
	for k := range raw {
		if !strings.HasPrefix(k, "@") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var fields []any
	for _, k := range keys[:min(len(keys), maxFields)] {
		fields = append(fields, printable(k), printable(textOf(raw[k])))
	}
	if len(keys) > maxFields {
		fields = append(fields, "fields_dropped", len(keys)-maxFields)
	}
	return fields
}

func textOf(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// levelOfText reads the prefixes that common loggers write; output without one is a warning: it was not meant for the log.
func levelOfText(text string) hclog.Level {
	for prefix, level := range map[string]hclog.Level{
		"[TRACE]": hclog.Trace, "[DEBUG]": hclog.Debug, "[INFO]": hclog.Info, "[WARN]": hclog.Warn, "[ERROR]": hclog.Error,
		"[ERR]": hclog.Error,
	} {
		if strings.HasPrefix(text, prefix) {
			return level
		}
	}
	return hclog.Warn
}

// printable makes text safe for a terminal: valid UTF-8, no control characters but tabs and line ends.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' && r != '\n' {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}
