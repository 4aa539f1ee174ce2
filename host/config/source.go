package config

import (
	"fmt"
	"strings"
)

// Source is where a value came from.
type Source struct {
	// Kind is "default", "file", "env" or "flag".
	Kind string
	// Name of the file, variable or flag.
	Name string
	// Line in the file, 0 if not known.
	Line int
}

// String returns it for people: "openhands-rt.yaml:12", "OPENHANDS_RT_LISTEN", "--listen", "default".
func (s Source) String() string {
	switch {
	case s.Kind == "file" && s.Line > 0:
		return fmt.Sprintf("%s:%d", s.Name, s.Line)
	case s.Name != "":
		return s.Name
	default:
		return "default"
	}
}

// Provenance says where each value came from.
type Provenance struct {
	byPath map[string]Source
	// File is the configuration file that was read, empty if none.
	File string
}

// Of returns the source of the value at a path such as "log.level"; for an item of a list that of the list.
func (p *Provenance) Of(path string) Source {
	path, _, _ = strings.Cut(path, "[")
	if s, ok := p.byPath[path]; ok {
		return s
	}
	return Source{Kind: "default"}
}

// record notes the source of everything in a layer. A group that several layers have keeps its first source.
func (p *Provenance) record(path string, value any, source func(path string) Source) {
	group, isGroup := value.(map[string]any)
	if _, had := p.byPath[path]; path != "" && !(isGroup && had) {
		p.byPath[path] = source(path)
	}
	for key, v := range group {
		p.record(join(path, key), v, source)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
