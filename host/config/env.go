package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// EnvPrefix begins the name of every variable that is read.
const EnvPrefix = "OPENHANDS_RT_"

// reservedEnv are the variables with the prefix that are no keys: the file to read, what the CLI takes for itself, and what
// openhands-rt sets in the processes that it starts (a daemon may run inside a sandbox of another).
func reservedEnv() []string {
	return []string{
		"OPENHANDS_RT_CONFIG", "OPENHANDS_RT_URL", "OPENHANDS_RT_KEY", "OPENHANDS_RT_RUNTIME",
		"OPENHANDS_RT_GROUP", "OPENHANDS_RT_PLUGIN", "OPENHANDS_RT_LIFELINE", "OPENHANDS_RT_SANDBOX",
	}
}

// leaves returns the path of every key that holds a value, not keys below maps.
func leaves(path string, t reflect.Type) []string {
	_, isText := reflect.New(t).Interface().(encoding.TextUnmarshaler)
	if t.Kind() != reflect.Struct || isText {
		return []string{path}
	}
	var out []string
	for _, f := range fieldsOf(t) {
		out = append(out, leaves(join(path, f.name), f.typ)...)
	}
	return out
}

// Keys returns the path of every key of the configuration, "log.level" among them. Below "backends", "log.levels" and the like
// there are names of the operator's choice.
func Keys() []string { return leaves("", reflect.TypeFor[Config]()) }

// EnvName returns the variable of a key: OPENHANDS_RT_LOG_LEVEL for "log.level".
func EnvName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// fromEnv makes a layer of the variables that have the prefix: single underscores for the keys of Keys, or double ones between
// all parts, names of the operator's choice included (OPENHANDS_RT_BACKENDS__LOCAL__PLUGIN). Unknown ones are noted.
func fromEnv(environ, allow []string, f *findings) layer {
	l := layer{data: map[string]any{}, source: map[string]Source{}}
	short := map[string]string{}
	for _, path := range Keys() {
		short[EnvName(path)] = path
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, EnvPrefix) || slices.Contains(reservedEnv(), name) || slices.Contains(allow, name) {
			continue
		}
		source := Source{Kind: "env", Name: name}
		if path, ok := short[name]; ok {
			l.set(strings.Split(path, "."), value, source)
			continue
		}
		parts := strings.Split(strings.ToLower(strings.TrimPrefix(name, EnvPrefix)), "__")
		if len(parts) < 2 || !slices.Contains(keysOf(reflect.TypeFor[Config]()), parts[0]) || slices.Contains(parts, "") {
			f.list = append(f.list, unknownVariable(name, short))
			continue
		}
		l.set(parts, value, source)
	}
	return l
}

func unknownVariable(name string, known map[string]string) *rterr.Error {
	names := reservedEnv()
	for n := range known {
		names = append(names, n)
	}
	slices.Sort(names)
	remedy := "unset it; openhands-rt config schema lists the keys"
	if like := nearest(name, names); like != "" {
		remedy = "did you mean " + like + "?"
	}
	return rterr.New(rterr.ConfigInvalid, "", "is not a known variable").WithField(name).WithRemedy(remedy).With("source", name)
}
