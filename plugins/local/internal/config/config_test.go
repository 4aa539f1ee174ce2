package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// beside returns a folder with a program named openhands-rt.
func beside(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "openhands-rt"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDefaults(t *testing.T) {
	dir := beside(t)
	for _, raw := range []string{"", "{}", " "} {
		s, err := Parse([]byte(raw), dir)
		if err != nil {
			t.Fatal(err)
		}
		if s.Level != LevelProcess || s.AgentBinary != filepath.Join(dir, "openhands-rt") || !s.AllowWorkspace ||
			s.Lease != 10*time.Minute || s.MountNamespace != MountAuto || len(s.AgentArgs) != 1 {
			t.Errorf("%+v", s)
		}
	}
}

func TestEveryKey(t *testing.T) {
	dir := beside(t)
	agent := filepath.Join(dir, "openhands-rt")
	s, err := Parse([]byte(`{"level":"process","agent_binary":"`+agent+`","agent_args":["agent","-v"],"env":{"A":"b"},
		"limits":{"memory_bytes":1,"cpu_millis":2,"pids":3},"allow_workspace":false,"workspace_root":"/tmp",
		"mount_namespace":"required","lease":"5s","python":"`+agent+`"}`), "/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	if s.Limits.MemoryBytes != 1 || s.Limits.CPUMillis != 2 || s.Limits.Pids != 3 || s.AllowWorkspace || s.Lease != 5*time.Second ||
		s.WorkspaceRoot != "/tmp" || s.Env["A"] != "b" || s.MountNamespace != MountRequired || len(s.AgentArgs) != 2 ||
		s.Python != agent {
		t.Errorf("%+v", s)
	}
}

func TestPythonIsLookedForBesideTheBinaries(t *testing.T) {
	dir := beside(t)
	if s, err := Parse(nil, dir); err != nil || s.Python != "" {
		t.Errorf("%q, %v", s.Python, err)
	}
	python := filepath.Join(dir, "python", "bin", "python3")
	if err := os.MkdirAll(filepath.Dir(python), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(python, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if s, err := Parse(nil, dir); err != nil || s.Python != python {
		t.Errorf("%q, %v", s.Python, err)
	}
}

func TestRefusals(t *testing.T) {
	dir := beside(t)
	for name, c := range map[string]struct{ raw, field, remedy string }{
		"not an object":     {`[]`, "", ""},
		"python relative":   {`{"python":"python3"}`, "python", ""},
		"python a folder":   {`{"python":"/tmp"}`, "python", ""},
		"null":              {` null `, "", ""},
		"not JSON":          {`{`, "", ""},
		"unknown":           {`{"levle":"process"}`, "levle", "did you mean level?"},
		"unknown, nested":   {`{"limits":{"memory":1}}`, "limits.memory", ""},
		"unknown, close":    {`{"limits":{"pid":1}}`, "limits.pid", "did you mean limits.pids?"},
		"unknown, far":      {`{"xyzzy":1}`, "xyzzy", ""},
		"namespaced":        {`{"level":"namespaced"}`, "level", "process"},
		"no level":          {`{"level":"vm"}`, "level", ""},
		"type":              {`{"limits":{"pids":"many"}}`, "limits.pids", ""},
		"limits of a type":  {`{"limits":7}`, "limits", ""},
		"negative":          {`{"limits":{"pids":-1}}`, "limits.pids", ""},
		"lease":             {`{"lease":"soon"}`, "lease", ""},
		"lease below zero":  {`{"lease":"-5s"}`, "lease", ""},
		"mount":             {`{"mount_namespace":"maybe"}`, "mount_namespace", ""},
		"no such agent":     {`{"agent_binary":"/no/such/program"}`, "agent_binary", ""},
		"agent is a folder": {`{"agent_binary":"/tmp"}`, "agent_binary", ""},
		"relative agent":    {`{"agent_binary":"agent"}`, "agent_binary", ""},
		"workspace root":    {`{"workspace_root":"/no/such"}`, "workspace_root", ""},
		"environment":       {`{"env":{"A=B":"c"}}`, "env.A=B", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.raw), dir)
			e := rterr.From(err)
			if !rterr.Is(err, rterr.ConfigInvalid) || e.Field != c.field || !strings.Contains(e.Remedy, c.remedy) {
				t.Errorf("%v, field %q, remedy %q", err, e.Field, e.Remedy)
			}
		})
	}
}

func TestNoAgentBeside(t *testing.T) {
	_, err := Parse(nil, t.TempDir())
	if e := rterr.From(err); e.Field != "agent_binary" || !strings.Contains(e.Remedy, "agent_binary") {
		t.Errorf("%v, remedy %q", err, e.Remedy)
	}
}

// TestSchemaAgrees: what the schema refuses Parse refuses, and the other way round.
func TestSchemaAgrees(t *testing.T) {
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := beside(t)
	for text, want := range map[string]bool{
		`{}`: true, `{"level":"process"}`: true, `{"limits":{"pids":3}}`: true, `{"env":{"A":"b"}}`: true,
		`{"levle":"process"}`: false, `{"limits":{"pid":3}}`: false, `{"level":"vm"}`: false, `{"lease":5}`: false, `[]`: false,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		_, parseErr := Parse([]byte(text), dir)
		if schemaErr := schema.Validate(v); (schemaErr == nil) != want || (parseErr == nil) != want {
			t.Errorf("%s: schema says %v, Parse says %v", text, schemaErr, parseErr)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"limits":{"pids":3},"env":{"A":"b"}}`))
	f.Add([]byte(`{"limits":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := Parse(raw, "/nowhere"); !rterr.Is(err, rterr.ConfigInvalid) {
			t.Errorf("%v", err) // Without an agent nothing is valid.
		}
	})
}
