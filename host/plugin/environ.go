package plugin

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// inheritedNames are the host's variables that every plugin gets: none of them carries a secret.
func inheritedNames() []string {
	return []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
}

// environ returns the plugin's environment: what it may inherit of host, then the spec's, then the house's.
func environ(spec Spec, host []string, level hclog.Level) []string {
	allowed := append(inheritedNames(), spec.EnvAllow...)
	env := map[string]string{}
	for _, pair := range host {
		name, value, ok := strings.Cut(pair, "=")
		if ok && slices.ContainsFunc(allowed, func(pattern string) bool { return matches(pattern, name) }) {
			env[name] = value
		}
	}
	maps.Copy(env, spec.Env)
	if spec.Limits.MemoryBytes > 0 {
		env["GOMEMLIMIT"] = strconv.FormatInt(spec.Limits.MemoryBytes, 10)
	}
	env[serve.EnvLifeline] = "stdin"
	if level != hclog.NoLevel && level != hclog.Off {
		env[serve.EnvLogLevel] = level.String()
	}
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// matches compares a name with a pattern, whose last character may be a star.
func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return prefix != "" && strings.HasPrefix(name, prefix)
	}
	return pattern == name
}
