package config

import (
	_ "embed"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

//go:embed fields.go
var fieldsSource string

// docs returns the comments of the types and fields in fields.go: "Config" and "Config.DataDir" by their text.
func docs() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "fields.go", fieldsSource, parser.ParseComments)
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "read the comments of the configuration", err)
	}
	out := map[string]string{}
	for _, decl := range file.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			if t, ok := spec.(*ast.TypeSpec); ok {
				documentType(out, t, general.Doc)
			}
		}
	}
	return out, nil
}

func documentType(out map[string]string, t *ast.TypeSpec, doc *ast.CommentGroup) {
	out[t.Name.Name] = oneLine(doc)
	body, ok := t.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range body.Fields.List {
		for _, name := range f.Names {
			out[t.Name.Name+"."+name.Name] = oneLine(f.Doc)
		}
	}
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

// Schema returns the JSON Schema (2020-12) of the configuration file, with descriptions and defaults.
func Schema() ([]byte, error) {
	comments, err := docs()
	if err != nil {
		return nil, err
	}
	reflector := jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		DoNotReference:             true,
		RequiredFromJSONSchemaTags: true,
		LookupComment: func(t reflect.Type, field string) string {
			if field == "" {
				return comments[t.Name()]
			}
			return comments[t.Name()+"."+field]
		},
	}
	schema := reflector.ReflectFromType(reflect.TypeFor[Config]())
	schema.Title = "openhands-rt"
	if err := addDefaults(schema, reflect.ValueOf(*Default())); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(schema, "", "  ")
	return append(raw, '\n'), rterr.Wrap(rterr.Internal, "write the schema", err)
}

// addDefaults notes the default of every key that has one.
func addDefaults(s *jsonschema.Schema, v reflect.Value) error {
	if s.Properties == nil {
		return nil
	}
	for _, f := range fieldsOf(v.Type()) {
		property, ok := s.Properties.Get(f.name)
		if !ok {
			return rterr.New(rterr.Internal, "write the schema", "the key %s is missing", f.name)
		}
		value := v.Field(f.index)
		switch value.Kind() {
		case reflect.Struct:
			if err := addDefaults(property, value); err != nil {
				return err
			}
		case reflect.Map, reflect.Slice:
		default:
			property.Default = value.Interface()
		}
	}
	return nil
}
