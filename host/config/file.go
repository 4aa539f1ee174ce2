package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	yamlparser "github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// maxFile is the largest configuration file, in bytes.
const maxFile = 1 << 20

// separator stands between the parts of koanf's keys. No key contains it, so that none is taken apart.
const separator = "\x00"

// readFile makes a layer of a YAML file.
func readFile(name string) (layer, error) {
	file, err := os.Open(name)
	if err != nil {
		return layer{}, fileError(name, 0, err.Error(), "give the path of a readable YAML file").WithCause(err)
	}
	defer func() { _ = file.Close() }() // read only
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return layer{}, fileError(name, 0, err.Error(), "give the path of a readable YAML file").WithCause(err)
	}
	return fromYAML(name, data)
}

func fileError(name string, line int, detail, remedy string) *rterr.Error {
	source := Source{Kind: "file", Name: name, Line: line}
	return rterr.New(rterr.ConfigInvalid, "", "%s", detail).WithField(source.String()).WithRemedy(remedy).With("source", source.String())
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// fromYAML makes a layer of a file's content.
func fromYAML(name string, data []byte) (l layer, err error) {
	if len(data) > maxFile {
		return layer{}, fileError(name, 0, fmt.Sprintf("has more than %d bytes", maxFile), "is it the right file?")
	}
	// The parser is another's: a file must not be able to end the daemon.
	defer func() {
		if p := recover(); p != nil {
			l, err = layer{}, fileError(name, 0, fmt.Sprintf("cannot be read as YAML: %v", p), "correct the file's syntax")
		}
	}()
	k := koanf.New(separator)
	if err := k.Load(rawbytes.Provider(data), yamlparser.Parser()); err != nil {
		return layer{}, syntaxError(name, err)
	}
	return layer{data: k.Raw(), source: lines(name, data)}, nil
}

func syntaxError(name string, err error) error {
	line := 0
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		_, _ = fmt.Sscan(m[1], &line) // 0 stays where it is no number
	}
	if _, ok := errors.AsType[*yaml.TypeError](err); ok {
		return fileError(name, line, strings.ReplaceAll(err.Error(), "\n", ""), "the file is a map of keys, each of them once").WithCause(err)
	}
	return fileError(name, line, err.Error(), "correct the file's syntax").WithCause(err)
}

// lines returns where each key of a file stands.
func lines(name string, data []byte) map[string]Source {
	out := map[string]Source{}
	var document yaml.Node
	if yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return out
	}
	var walk func(path string, n *yaml.Node)
	walk = func(path string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode { // what an alias stands for has the line of the alias
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := join(path, n.Content[i].Value)
			out[at] = Source{Kind: "file", Name: name, Line: n.Content[i].Line}
			walk(at, n.Content[i+1])
		}
	}
	walk("", document.Content[0])
	return out
}
