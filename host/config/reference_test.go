package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the generated files")

const referenceFile = "../../configs/openhands-rt.yaml"

func TestTheReferenceFileIsFresh(t *testing.T) {
	var b bytes.Buffer
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(referenceFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("configs/openhands-rt.yaml is stale (go test ./host/config -update writes it):\n%s", diff)
	}
}

func TestTheReferenceFileChangesNothing(t *testing.T) {
	environ := []string{"HOME=/home/u"}
	plain, _, err := Load(Options{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	read, from, err := Load(Options{Environ: environ, File: referenceFile})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain.Masked(), read.Masked(), equalEmpty()); diff != "" {
		t.Errorf("the reference file is not the default:\n%s", diff)
	}
	for _, key := range Keys() {
		if s := from.Of(key); s.Kind != "file" || s.Line == 0 {
			t.Errorf("the reference file lacks %s (%+v)", key, s)
		}
	}
}

// equalEmpty takes empty and missing maps and lists as the same.
func equalEmpty() cmp.Option {
	return cmp.FilterValues(func(a, b any) bool {
		va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
		ok := func(v reflect.Value) bool {
			return v.IsValid() && (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0
		}
		return ok(va) && ok(vb)
	}, cmp.Comparer(func(any, any) bool { return true }))
}

func TestLocalYAML(t *testing.T) {
	c, _, err := Load(Options{Environ: []string{"HOME=/home/u"}, File: "../../configs/local.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if c.DefaultBackend != "local" || c.Backends["local"].Plugin != "local" {
		t.Errorf("%+v", c.Backends)
	}
}

// The example entries in the comments are keys too: uncommented they must be known.
func TestExamplesInTheReferenceAreKnownKeys(t *testing.T) {
	raw, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range append(keysOf(reflect.TypeFor[Backend]()), keysOf(reflect.TypeFor[Credential]())...) {
		if !strings.Contains(string(raw), " "+key+":") {
			t.Errorf("%s is not shown", key)
		}
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	comments, err := docs()
	if err != nil {
		t.Fatal(err)
	}
	var check func(reflect.Type)
	check = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if len(comments[typ.Name()+"."+f.Name]) < 5 {
				t.Errorf("%s.%s has no comment", typ.Name(), f.Name)
			}
			if f.Type.Kind() == reflect.Struct {
				check(f.Type)
			}
			if f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct {
				check(f.Type.Elem())
			}
		}
	}
	check(reflect.TypeFor[Config]())
}

func compiled(t *testing.T) *validator.Schema {
	t.Helper()
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := validator.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("config.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withoutNulls leaves out what is not set.
func withoutNulls(m map[string]any) {
	for key, value := range m {
		if inner, ok := value.(map[string]any); ok {
			withoutNulls(inner)
		}
		if value == nil {
			delete(m, key)
		}
	}
}

func TestTheSchemaTakesWhatLoadTakes(t *testing.T) {
	s := compiled(t)
	raw, err := json.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	withoutNulls(document)
	if err := s.Validate(document); err != nil {
		t.Errorf("the default: %v", err)
	}
	for _, bad := range []map[string]any{
		{"listne": "x"}, {"lease": 5.0}, {"on_disconnect": "panic"}, {"log": map[string]any{"level": "loud"}},
		{"limits": map[string]any{"max_message": "8 furlongs"}}, {"backends": map[string]any{"a": map[string]any{"plugn": "x"}}},
	} {
		if s.Validate(bad) == nil {
			t.Errorf("takes %v", bad)
		}
	}
	good := map[string]any{"backends": map[string]any{"a": map[string]any{
		"command": []any{"/bin/x"}, "config": map[string]any{"free": 1.0}, "credentials": map[string]any{"k": map[string]any{"env": "K"}},
	}}}
	if err := s.Validate(good); err != nil {
		t.Errorf("refuses: %v", err)
	}
}

func TestTheSchemaHasDescriptionsAndDefaults(t *testing.T) {
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct {
			Description string
			Default     any
			Properties  map[string]struct{ Description, Default any }
		}
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	if p := schema.Properties["lease"]; p.Default != "5m" || !strings.HasPrefix(p.Description, "How long a sandbox lives") {
		t.Errorf("lease: %+v", p)
	}
	if p := schema.Properties["log"].Properties["level"]; p.Default != "info" || p.Description == "" {
		t.Errorf("log.level: %+v", p)
	}
}

func TestMarkdownHasEveryKey(t *testing.T) {
	var b bytes.Buffer
	if err := Markdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, key := range Keys() {
		if !strings.Contains(b.String(), "| `"+key+"` | `") {
			t.Errorf("%s is missing", key)
		}
	}
}
