package config

import (
	"bytes"
	"io"
	"maps"
	"net/url"
	"regexp"

	"go.yaml.in/yaml/v3"

	"encoding/json"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// mask stands for a value that is not shown.
const mask = "[set]"

var secretName = regexp.MustCompile(`(?i)(secret|token|passw|credential|api_?key|private)`)

// Masked returns a copy for showing: environments of plugins, settings of plugins that are called like secrets, arguments of
// programs that print secrets, and the user of the store's URL are replaced.
func (c *Config) Masked() *Config {
	out := *c
	out.Store.URL = maskURL(c.Store.URL)
	out.Backends = make(map[string]Backend, len(c.Backends))
	for name, b := range c.Backends {
		b.Env = maps.Clone(b.Env)
		for key := range b.Env {
			b.Env[key] = mask
		}
		b.Config, _ = masked("", b.Config).(map[string]any)
		b.Credentials = maps.Clone(b.Credentials)
		for key, credential := range b.Credentials {
			if len(credential.Command) > 1 {
				credential.Command = []string{credential.Command[0], mask}
			}
			b.Credentials[key] = credential
		}
		out.Backends[name] = b
	}
	return &out
}

func masked(name string, value any) any {
	switch value := value.(type) {
	case map[string]any:
		if value == nil {
			return value
		}
		out := make(map[string]any, len(value))
		for key, v := range value {
			out[key] = masked(key, v)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, v := range value {
			out[i] = masked(name, v)
		}
		return out
	default:
		if secretName.MatchString(name) {
			return mask
		}
		return value
	}
}

func maskURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return mask
	}
	if u.User != nil {
		u.User = url.User("masked")
		return u.String()
	}
	return raw
}

// WriteYAML writes the configuration in force, masked, as YAML in the order of the keys in the reference file.
func (c *Config) WriteYAML(w io.Writer) error {
	const op = "write the configuration"
	raw, err := json.Marshal(c.Masked())
	if err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	// JSON is YAML: read as nodes it keeps the order, and only its style changes.
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	block(&document)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	_, err = w.Write(out.Bytes())
	return rterr.Wrap(rterr.Internal, op, err)
}

// block takes JSON's style off a tree of nodes.
func block(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		block(child)
	}
}
