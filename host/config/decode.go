package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// field is one key of a struct.
type field struct {
	name  string
	index int
	typ   reflect.Type
	enum  []string
}

// fieldsOf returns the keys of a struct type, in their order.
func fieldsOf(t reflect.Type) []field {
	out := make([]field, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		out[i] = field{name: f.Tag.Get("json"), index: i, typ: f.Type}
		for part := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
			if value, ok := strings.CutPrefix(part, "enum="); ok {
				out[i].enum = append(out[i].enum, value)
			}
		}
	}
	return out
}

func keysOf(t reflect.Type) []string {
	var out []string
	for _, f := range fieldsOf(t) {
		out = append(out, f.name)
	}
	return out
}

// decoder puts merged values into the struct, and notes everything that does not fit.
type decoder struct{ *findings }

// loose: the value is text from a variable or a flag, whatever its key's type.
func (d decoder) loose(path string) bool {
	kind := d.from.Of(path).Kind
	return kind == "env" || kind == "flag"
}

// value puts raw at path into v. A null leaves what is there.
func (d decoder) value(path string, v reflect.Value, raw any) {
	if raw == nil {
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(path, u, raw)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(path, v, raw)
	case reflect.Map:
		d.mapping(path, v, raw)
	case reflect.Slice:
		d.list(path, v, raw)
	case reflect.Interface:
		v.Set(reflect.ValueOf(raw))
	default:
		d.scalar(path, v, raw)
	}
}

func (d decoder) structure(path string, v reflect.Value, raw any) {
	m, ok := raw.(map[string]any)
	if !ok {
		d.add(path, "put its keys below it", "must be a group of keys, not %s", describe(raw))
		return
	}
	fields := fieldsOf(v.Type())
	for key, value := range m {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			d.unknown(join(path, key), key, keysOf(v.Type()))
			continue
		}
		at := join(path, key)
		d.value(at, v.Field(fields[i].index), value)
		d.enum(at, v.Field(fields[i].index), fields[i].enum)
	}
}

func (d decoder) unknown(path, key string, known []string) {
	remedy := "remove it; known here: " + strings.Join(known, ", ")
	if like := nearest(key, known); like != "" {
		remedy = fmt.Sprintf("did you mean %s?", like)
	}
	d.add(path, remedy, "is not a known key")
}

func (d decoder) enum(path string, v reflect.Value, allowed []string) {
	if len(allowed) == 0 || slices.Contains(allowed, v.String()) {
		return
	}
	d.add(path, "use one of "+strings.Join(allowed, ", "), "%q is not one of its values", v.String())
}

func (d decoder) mapping(path string, v reflect.Value, raw any) {
	m, ok := raw.(map[string]any)
	if !ok {
		d.add(path, "put names and their values below it", "must be a map, not %s", describe(raw))
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for key, value := range m {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(join(path, key), element, value)
		v.SetMapIndex(reflect.ValueOf(key), element)
	}
	if v.Type().Elem().Kind() == reflect.Interface {
		if _, err := json.Marshal(v.Interface()); err != nil {
			d.add(path, "use text, numbers, booleans, lists and maps with text keys", "cannot be given to a plugin as JSON: %v", err)
		}
	}
}

// list takes a list of text; a single text is a list of one, or of many with commas where it comes from a variable.
func (d decoder) list(path string, v reflect.Value, raw any) {
	var items []any
	switch raw := raw.(type) {
	case []any:
		items = raw
	case []string:
		for _, s := range raw {
			items = append(items, s)
		}
	case string:
		items = []any{raw}
		if d.loose(path) {
			items = nil
			for s := range strings.SplitSeq(raw, ",") {
				if s = strings.TrimSpace(s); s != "" {
					items = append(items, s)
				}
			}
		}
	default:
		d.add(path, "write it as a list: [a, b]", "must be a list, not %s", describe(raw))
		return
	}
	before := len(d.findings.list)
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.value(fmt.Sprintf("%s[%d]", path, i), out.Index(i), item)
	}
	if len(d.findings.list) == before { // else it is told already, and half a list would only be told again
		v.Set(out)
	}
}

// text is for durations and sizes.
func (d decoder) text(path string, u encoding.TextUnmarshaler, raw any) {
	remedy := `give a length of time with its unit, as "30s", "5m" or "7d"`
	if _, size := u.(*Size); size {
		remedy = `give a size, as "8MiB"`
		if n, ok := integer(raw); ok && n >= 0 {
			raw = strconv.FormatInt(n, 10)
		}
	}
	s, ok := raw.(string)
	if !ok {
		d.add(path, remedy, "must be text with a unit, not %s", describe(raw))
		return
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		d.add(path, remedy, "%v", err)
	}
}

func (d decoder) scalar(path string, v reflect.Value, raw any) {
	if s, ok := raw.(string); ok && d.loose(path) && v.Kind() != reflect.String {
		raw = parsed(s)
	}
	switch v.Kind() {
	case reflect.String:
		s, ok := raw.(string)
		if !ok {
			d.add(path, "put it in quotes", "must be text, not %s", describe(raw))
			return
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := raw.(bool)
		if !ok {
			d.add(path, "use true or false", "must be true or false, not %s", describe(raw))
			return
		}
		v.SetBool(b)
	case reflect.Int:
		n, ok := integer(raw)
		if !ok {
			d.add(path, "use a whole number", "must be a whole number, not %s", describe(raw))
			return
		}
		v.SetInt(n)
	case reflect.Float64:
		d.float(path, v, raw)
	}
}

func (d decoder) float(path string, v reflect.Value, raw any) {
	f, ok := raw.(float64)
	if n, whole := integer(raw); whole {
		f, ok = float64(n), true
	}
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		d.add(path, "use a number", "must be a number, not %s", describe(raw))
		return
	}
	v.SetFloat(f)
}

// parsed reads text from a variable as the boolean or number that it may be.
func parsed(s string) any {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f
	}
	if b, err := strconv.ParseBool(s); err == nil {
		return b
	}
	return s
}

func integer(raw any) (int64, bool) {
	switch n := raw.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	case uint64:
		return int64(n), n <= math.MaxInt64
	default:
		return 0, false
	}
}

// describe names a value's type, never the value: it may be a secret at the wrong place.
func describe(raw any) string {
	switch raw.(type) {
	case map[string]any:
		return "a group of keys"
	case []any, []string:
		return "a list"
	case string:
		return "text"
	case bool:
		return "true or false"
	case int, int64, uint64, float64:
		return "a number"
	default:
		return fmt.Sprintf("%T", raw)
	}
}
