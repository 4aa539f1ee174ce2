// Package config is the local backend's configuration: one struct, one validation, one schema.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// The levels of isolation that the key knows.
const (
	LevelProcess    = "process"
	LevelNamespaced = "namespaced"
)

// What mount_namespace can be.
const (
	MountAuto     = "auto"
	MountRequired = "required"
	MountOff      = "off"
)

// Config is what an operator can say. Every key may be left out.
type Config struct {
	// Level is the isolation of every sandbox. Fails closed: what cannot be had is refused, never lowered.
	Level string `json:"level,omitempty" jsonschema:"enum=process,enum=namespaced,default=process,description=Isolation of every sandbox. What cannot be had is refused and never lowered."`
	// AgentBinary is the program of the sandbox agent.
	AgentBinary string `json:"agent_binary,omitempty" jsonschema:"description=Path of the program of the sandbox agent. Default: openhands-rt-agent beside the plugin, else openhands-rt."`
	// AgentArgs are its arguments before those that the backend adds.
	AgentArgs []string `json:"agent_args,omitempty" jsonschema:"description=Arguments of the agent before those that the backend adds. Default: agent."`
	// Python is the interpreter that kernels take their packages from.
	Python string `json:"python,omitempty" jsonschema:"description=Path of a Python interpreter that has ipykernel for the feature jupyter. Default: python/bin/python3 beside the plugin as scripts/python makes it; else the first python3 on the sandbox's PATH; if that has no ipykernel then an environment that is made with pip when it is first needed and kept in the backend's state."`
	// Env is added to the environment of everything in a sandbox; what a client asks for comes after it.
	Env map[string]string `json:"env,omitempty" jsonschema:"description=Environment of everything in a sandbox; a client's own comes after it."`
	// Limits hold for every sandbox whose client asks for none.
	Limits Limits `json:"limits,omitzero" jsonschema:"description=Limits of a sandbox whose client asks for none."`
	// AllowWorkspace: a client may name an existing folder.
	AllowWorkspace *bool `json:"allow_workspace,omitempty" jsonschema:"default=true,description=Whether a client may name an existing folder of this machine as the workspace."`
	// WorkspaceRoot: a folder that a client names must lie below this one.
	WorkspaceRoot string `json:"workspace_root,omitempty" jsonschema:"description=A folder that a client names must lie below this one. Default: any."`
	// MountNamespace says whether /workspace and HOME are mounted for each sandbox.
	MountNamespace string `json:"mount_namespace,omitempty" jsonschema:"enum=auto,enum=required,enum=off,default=auto,description=Whether each sandbox sees its folders at /workspace and /home/openhands."`
	// Lease is how long a sandbox lives without a renewal when the client does not say; a Go duration.
	Lease string `json:"lease,omitempty" jsonschema:"default=10m,description=How long a sandbox lives without a renewal when the client does not say; a duration such as 10m."`
}

// Limits in the config; zero means none.
type Limits struct {
	MemoryBytes uint64 `json:"memory_bytes,omitempty" jsonschema:"description=Memory in bytes."`
	CPUMillis   uint32 `json:"cpu_millis,omitempty" jsonschema:"description=Thousandths of a processor."`
	Pids        uint32 `json:"pids,omitempty" jsonschema:"description=Number of processes and threads."`
}

// Settings are a checked Config with its defaults.
type Settings struct {
	Level          string
	AgentBinary    string
	AgentArgs      []string
	Python         string
	Env            map[string]string
	Limits         sandbox.Limits
	AllowWorkspace bool
	WorkspaceRoot  string
	MountNamespace string
	Lease          time.Duration
}

const defaultLease = 10 * time.Minute

const op = "configure local backend"

// Invalid is the refusal of a key.
func Invalid(key, detail string, args ...any) *rterr.Error {
	return rterr.New(rterr.ConfigInvalid, op, detail, args...).WithField(key).WithRan(rterr.RanNo)
}

// Parse reads a JSON object; empty means all defaults. beside is the folder in which the agent is looked for when the config
// does not name it. Errors are ConfigInvalid with the path of the key.
func Parse(raw []byte, beside string) (Settings, error) {
	var c Config
	if len(strings.TrimSpace(string(raw))) > 0 {
		if err := unknownKeys(raw); err != nil {
			return Settings{}, err
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			return Settings{}, typeError(err)
		}
	}
	return c.settings(beside)
}

// typeError names the key whose value has the wrong type.
func typeError(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return Invalid(t.Field, "is a %s, wanted is %s", t.Value, t.Type)
	}
	return Invalid("", "%v", err)
}

func (c Config) settings(beside string) (Settings, error) {
	s := Settings{
		Level: orElse(c.Level, LevelProcess), AgentBinary: c.AgentBinary, AgentArgs: c.AgentArgs, Python: c.Python, Env: c.Env,
		Limits:         sandbox.Limits(c.Limits),
		AllowWorkspace: c.AllowWorkspace == nil || *c.AllowWorkspace,
		WorkspaceRoot:  c.WorkspaceRoot, MountNamespace: orElse(c.MountNamespace, MountAuto), Lease: defaultLease,
	}
	if s.AgentArgs == nil {
		s.AgentArgs = []string{"agent"}
	}
	for _, check := range []func(*Settings) error{checkLevel, checkMount, checkEnv, checkWorkspaceRoot} {
		if err := check(&s); err != nil {
			return Settings{}, err
		}
	}
	if c.Lease != "" {
		d, err := time.ParseDuration(c.Lease)
		if err != nil || d <= 0 {
			return Settings{}, Invalid("lease", "%q is no positive duration such as 10m", c.Lease)
		}
		s.Lease = d
	}
	if err := findPython(&s, beside); err != nil {
		return Settings{}, err
	}
	return s, findAgent(&s, beside)
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func checkLevel(s *Settings) error {
	switch s.Level {
	case LevelProcess:
		return nil
	case LevelNamespaced:
		return Invalid("level", `"namespaced" is not available in this version`).
			WithRemedy(`set level to "process", which walls nothing off but folders, if that is acceptable`)
	default:
		return Invalid("level", `%q is neither "process" nor "namespaced"`, s.Level)
	}
}

func checkMount(s *Settings) error {
	switch s.MountNamespace {
	case MountAuto, MountRequired, MountOff:
		return nil
	default:
		return Invalid("mount_namespace", `%q is neither "auto", "required" nor "off"`, s.MountNamespace)
	}
}

// checkEnv: names that no environment can carry would be dropped or read as something else.
func checkEnv(s *Settings) error {
	for name, value := range s.Env {
		if err := CheckVariable(name, value); err != nil {
			return Invalid("env."+name, "%v", err)
		}
	}
	return nil
}

// CheckVariable refuses what an environment cannot carry.
func CheckVariable(name, value string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return fmt.Errorf("%q is no name of a variable", name)
	}
	if strings.Contains(value, "\x00") {
		return fmt.Errorf("the value of %s has a NUL", name)
	}
	return nil
}

func checkWorkspaceRoot(s *Settings) error {
	if s.WorkspaceRoot == "" {
		return nil
	}
	real, err := filepath.EvalSymlinks(s.WorkspaceRoot)
	if err != nil || !filepath.IsAbs(s.WorkspaceRoot) {
		return Invalid("workspace_root", "%q is no absolute path of a folder", s.WorkspaceRoot)
	}
	s.WorkspaceRoot = real
	return nil
}

// isProgram: a regular file that may be executed.
func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// findPython takes the environment that scripts/python has made beside the binaries if the config names none. That an interpreter
// has ipykernel is seen when it is used: without it, only cells fail.
func findPython(s *Settings, beside string) error {
	if s.Python == "" {
		if prepared := filepath.Join(beside, "python", "bin", "python3"); isProgram(prepared) {
			s.Python = prepared
		}
		return nil
	}
	if !filepath.IsAbs(s.Python) || !isProgram(s.Python) {
		return Invalid("python", "%s is no absolute path of a program", s.Python)
	}
	return nil
}

// findAgent checks that the agent's program is there: it would be missed only at the first sandbox otherwise.
func findAgent(s *Settings, beside string) error {
	named := s.AgentBinary != ""
	if !named {
		s.AgentBinary = filepath.Join(beside, "openhands-rt")
		// The agent alone, where scripts/build has made it: half the memory of the whole program in the role of the agent.
		if slim := s.AgentBinary + "-agent"; isProgram(slim) {
			s.AgentBinary = slim
		}
	}
	info, err := os.Stat(s.AgentBinary)
	switch {
	case !filepath.IsAbs(s.AgentBinary):
		return Invalid("agent_binary", "%q is not an absolute path", s.AgentBinary)
	case err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0:
		return nil
	case named:
		return Invalid("agent_binary", "%s is no program", s.AgentBinary)
	default:
		return Invalid("agent_binary", "is not set, and %s is no program", s.AgentBinary).
			WithRemedy("put openhands-rt beside the plugin, or set agent_binary to its path")
	}
}
