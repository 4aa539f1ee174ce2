package cli

import (
	"encoding/json"
	"strings"
)

// treeOf is a configuration as nested maps, by the names of its keys.
func treeOf(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	tree := map[string]any{}
	return tree, json.Unmarshal(raw, &tree)
}

// lookup returns the value at a dotted path: strings as they are, all else as JSON.
func lookup(tree map[string]any, key string) (string, bool) {
	head, rest, more := strings.Cut(key, ".")
	value, ok := tree[head]
	if !ok {
		return "", false
	}
	if sub, isMap := value.(map[string]any); more && isMap {
		return lookup(sub, rest)
	}
	if s, isString := value.(string); isString {
		return s, true
	}
	raw, err := json.Marshal(value)
	return string(raw), err == nil
}
