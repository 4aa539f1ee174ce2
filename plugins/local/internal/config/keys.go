package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// unknownKeys refuses the first key, in order of their paths, that Config does not have.
func unknownKeys(raw []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return Invalid("", "must be a JSON object: %v", err)
	}
	if object == nil {
		return Invalid("", "must be a JSON object, not null")
	}
	return unknownIn(object, reflect.TypeFor[Config](), "")
}

func unknownIn(object map[string]json.RawMessage, t reflect.Type, prefix string) error {
	fields := fieldsOf(t)
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		field, ok := fields[name]
		if !ok {
			return unknown(prefix+name, name, fields)
		}
		if field.Kind() != reflect.Struct {
			continue
		}
		var inner map[string]json.RawMessage
		if json.Unmarshal(object[name], &inner) != nil {
			continue // A wrong type, which the decoder names.
		}
		if err := unknownIn(inner, field, prefix+name+"."); err != nil {
			return err
		}
	}
	return nil
}

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i).Type
	}
	return fields
}

func unknown(path, name string, fields map[string]reflect.Type) error {
	known := make([]string, 0, len(fields))
	for f := range fields {
		known = append(known, f)
	}
	slices.Sort(known)
	best, cost := "", len(name)/2+1
	for _, k := range known {
		if d := distance(name, k); d < cost {
			best, cost = k, d
		}
	}
	err := Invalid(path, "is not a key of the local backend").With("known", strings.Join(known, ", "))
	if best != "" {
		return err.WithRemedy("did you mean " + strings.TrimSuffix(path, name) + best + "?")
	}
	return err
}

// distance is the number of characters to insert, remove, replace or swap with their neighbour between a and b.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, row[j-1]+1, last[j]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// Schema returns the JSON Schema (2020-12) of Config.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{DoNotReference: true, Anonymous: true}
	return json.Marshal(r.Reflect(&Config{}))
}
