package config

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Options say what to read.
type Options struct {
	// File is the YAML file; empty: the one that OPENHANDS_RT_CONFIG names, else none.
	File string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Flags by the path of their key ("log.level"): those that were given.
	Flags map[string]any
	// AllowEnv are further variables with the prefix that are no mistake, and not read.
	AllowEnv []string
}

// layer is one source of values, as nested maps, and where in it each path stands.
type layer struct {
	data   map[string]any
	source map[string]Source
}

// set puts a value at a path of a layer, making the groups above it.
func (l *layer) set(path []string, value any, source Source) {
	for i := range path {
		group := strings.Join(path[:i+1], ".")
		if _, had := l.source[group]; !had || i == len(path)-1 {
			l.source[group] = source
		}
	}
	at := l.data
	for _, part := range path[:len(path)-1] {
		next, ok := at[part].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[part] = next
		}
		at = next
	}
	at[path[len(path)-1]] = value
}

// Load reads and checks a configuration: defaults, file, environment, flags, each over the one before. The error is a *Problems
// with everything that is wrong. The Provenance is there in either case.
func Load(o Options) (*Config, *Provenance, error) {
	from := &Provenance{byPath: map[string]Source{}}
	f := &findings{from: from}
	c, err := build(layers(o, f), f, environment{o.Environ})
	return c, from, err
}

// build merges the layers, in the order in which they count, into a checked configuration.
func build(layers []layer, f *findings, env environment) (*Config, error) {
	k := koanf.New(separator)
	for _, l := range layers {
		if err := k.Load(confmap.Provider(l.data, ""), nil); err != nil {
			return nil, rterr.Wrap(rterr.Internal, "merge configuration", err)
		}
		f.from.record("", l.data, l.of)
	}
	c := Default()
	decoder{f}.value("", reflect.ValueOf(c).Elem(), k.Raw())
	c.complete(env, os.Geteuid())
	c.check(f)
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// of returns the source of a path, or of what it lies in: what an alias stands for has no line of its own.
func (l layer) of(path string) Source {
	for {
		if s, ok := l.source[path]; ok {
			return s
		}
		cut := strings.LastIndexByte(path, '.')
		if cut < 0 {
			return Source{Kind: "default"}
		}
		path = path[:cut]
	}
}

// layers reads the sources, in the order in which they count, and notes what cannot be read.
func layers(o Options, f *findings) []layer {
	var out []layer
	file := o.File
	if file == "" {
		file = environment{o.Environ}.get("OPENHANDS_RT_CONFIG")
	}
	if file != "" {
		f.from.File = file
		l, err := readFile(file)
		if e, ok := errors.AsType[*rterr.Error](err); ok {
			f.list = append(f.list, e)
		}
		out = append(out, l)
	}
	return append(out, fromEnv(o.Environ, o.AllowEnv, f), fromFlags(o.Flags))
}

func fromFlags(flags map[string]any) layer {
	l := layer{data: map[string]any{}, source: map[string]Source{}}
	for path, value := range flags {
		name := "--" + strings.ReplaceAll(strings.ReplaceAll(path, ".", "-"), "_", "-")
		l.set(strings.Split(path, "."), value, Source{Kind: "flag", Name: name})
	}
	return l
}

// environment is a list of NAME=value, of which the last of a name counts.
type environment struct{ list []string }

func (e environment) get(name string) string {
	for _, pair := range slices.Backward(e.list) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}
