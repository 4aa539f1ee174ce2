package config

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// localName is the name of the backend, and of its plugin, that is there when none is configured.
const localName = "local"

// complete fills in what depends on other values or on the machine.
func (c *Config) complete(env environment, uid int) {
	c.DataDir = absolute(env, c.DataDir, stateDir(env, uid))
	c.KeyFile = absolute(env, c.KeyFile, filepath.Join(c.DataDir, "key"))
	c.PluginDir = absolute(env, c.PluginDir, "")
	c.Log.File = absolute(env, c.Log.File, "")
	c.Store.CredentialsFile = absolute(env, c.Store.CredentialsFile, "")
	if len(c.Backends) == 0 {
		c.Backends = map[string]Backend{localName: {Plugin: localName}}
	}
	for name, b := range c.Backends {
		if b.ConnectTimeout == 0 {
			b.ConnectTimeout = c.Timeouts.Connect
		}
		if b.Config == nil {
			b.Config = map[string]any{} // a plugin is given an object, never null
		}
		c.Backends[name] = b
	}
	if c.DefaultBackend != "" {
		return
	}
	if _, ok := c.Backends[localName]; ok {
		c.DefaultBackend = localName
	} else if len(c.Backends) == 1 {
		c.DefaultBackend = c.BackendNames()[0]
	}
}

// BackendNames returns the names of the backends, sorted.
func (c *Config) BackendNames() []string { return slices.Sorted(maps.Keys(c.Backends)) }

// StoreDir is the folder of the embedded store.
func (c *Config) StoreDir() string { return filepath.Join(c.DataDir, "store") }

// EndpointFile is the file that tells the CLI where the daemon is.
func (c *Config) EndpointFile() string { return filepath.Join(c.DataDir, "endpoint.json") }

// DefaultDataDir returns the data_dir that holds where none is set, for the CLI's search for a daemon.
func DefaultDataDir(environ []string) string { return stateDir(environment{environ}, os.Geteuid()) }

// stateDir is the default data_dir.
func stateDir(env environment, uid int) string {
	if uid == 0 {
		return "/var/lib/openhands-rt"
	}
	if state := env.get("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "openhands-rt")
	}
	if home := env.get("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "openhands-rt")
	}
	return ""
}

// absolute makes path absolute, "~/" standing for the home folder; def for an empty one.
func absolute(env environment, path, def string) string {
	if path == "" {
		return def
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok && env.get("HOME") != "" {
		return filepath.Join(env.get("HOME"), rest)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path // without a current folder: the check of what uses it will say so
}
