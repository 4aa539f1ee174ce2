package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// width is where the comments of the reference file are folded.
const width = 116

const referenceHead = `# Every key of openhands-rt's configuration, with its default: as it stands, this file changes nothing.
# Made by the code; configs/local.yaml is a short one to begin with.
#
# Values come from here, then from variables (OPENHANDS_RT_LOG_LEVEL for log.level, OPENHANDS_RT_BACKENDS__LOCAL__PLUGIN where
# a part is a name of yours), then from flags; the later wins. "openhands-rt config check FILE" checks a file.
`

// WriteReference writes the reference file: every key, its comment and its default.
func WriteReference(w io.Writer) error {
	comments, err := docs()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(referenceHead)
	p := printer{&b, comments}
	p.structure("", reflect.ValueOf(*Default()))
	_, err = io.WriteString(w, b.String())
	return rterr.Wrap(rterr.Internal, "write the reference file", err)
}

type printer struct {
	b        *strings.Builder
	comments map[string]string
}

func (p printer) structure(indent string, v reflect.Value) {
	t := v.Type()
	for _, f := range fieldsOf(t) {
		if indent == "" {
			p.b.WriteString("\n")
		}
		p.comment(indent, p.comments[t.Name()+"."+t.Field(f.index).Name], f.enum)
		value := v.Field(f.index)
		if value.Kind() == reflect.Struct {
			fmt.Fprintf(p.b, "%s%s:\n", indent, f.name)
			p.structure(indent+"  ", value)
			continue
		}
		fmt.Fprintf(p.b, "%s%s: %s\n", indent, f.name, inline(value))
		if f.typ.Kind() == reflect.Map && f.typ.Elem().Kind() == reflect.Struct {
			p.example(indent+"  ", "NAME", f.typ.Elem())
		}
	}
}

// example shows, in comments, what an entry of a map may have.
func (p printer) example(indent, name string, t reflect.Type) {
	var b strings.Builder
	inner := printer{&b, p.comments}
	inner.structure("  ", reflect.New(t).Elem())
	fmt.Fprintf(p.b, "%s# %s:\n", indent, name)
	for line := range strings.Lines(b.String()) {
		p.b.WriteString(indent + "# " + line)
	}
}

func (p printer) comment(indent, text string, enum []string) {
	if len(enum) > 0 {
		text += " One of: " + strings.Join(enum, ", ") + "."
	}
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width {
			p.b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	p.b.WriteString(line + "\n")
}

// inline writes a value as YAML on one line; JSON is YAML.
func inline(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Map && v.Len() == 0:
		return "{}"
	case v.Kind() == reflect.Slice && v.Len() == 0:
		return "[]"
	}
	if t, ok := v.Interface().(encoding.TextMarshaler); ok {
		if text, err := t.MarshalText(); err == nil {
			return string(text)
		}
	}
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		return `""`
	}
	return string(raw)
}

// Markdown writes a table of all keys, for the docs.
func Markdown(w io.Writer) error {
	comments, err := docs()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("| key | default | variable | meaning |\n|---|---|---|---|\n")
	rows(&b, "", reflect.ValueOf(*Default()), comments, true)
	b.WriteString("\nBelow `backends.NAME`:\n\n| key | meaning |\n|---|---|\n")
	rows(&b, "", reflect.ValueOf(Backend{}), comments, false)
	b.WriteString("\nBelow `backends.NAME.credentials.NAME`:\n\n| key | meaning |\n|---|---|\n")
	rows(&b, "", reflect.ValueOf(Credential{}), comments, false)
	_, err = io.WriteString(w, b.String())
	return rterr.Wrap(rterr.Internal, "write the table of keys", err)
}

func rows(b *strings.Builder, path string, v reflect.Value, comments map[string]string, full bool) {
	t := v.Type()
	for _, f := range fieldsOf(t) {
		at, value := join(path, f.name), v.Field(f.index)
		if value.Kind() == reflect.Struct {
			rows(b, at, value, comments, full)
			continue
		}
		doc := comments[t.Name()+"."+t.Field(f.index).Name]
		if full {
			fmt.Fprintf(b, "| `%s` | `%s` | `%s` | %s |\n", at, inline(value), EnvName(at), doc)
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", at, doc)
	}
}
