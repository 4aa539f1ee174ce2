package config

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// PluginPrefix begins the name of every plugin's binary.
const PluginPrefix = "openhands-rt-plugin-"

// Argv returns the command line of a backend's plugin: its command, or the binary that its short name stands for, looked for in
// binDir (the folder of the openhands-rt binary), in plugin_dir, and on PATH. Nil for a backend with an address.
func (c *Config) Argv(backend, binDir string) ([]string, error) {
	b, ok := c.Backends[backend]
	if !ok {
		return nil, rterr.New(rterr.NotFound, "", "no backend is called %q", backend)
	}
	if b.Address != "" {
		return nil, nil
	}
	if len(b.Command) > 0 {
		return append([]string(nil), b.Command...), nil
	}
	name := PluginPrefix + b.Plugin
	for _, dir := range []string{binDir, c.PluginDir} {
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return []string{path}, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return []string{path}, nil
	}
	return nil, rterr.New(rterr.ConfigInvalid, "", "there is no %s in %s, in plugin_dir, or on PATH", name, binDir).
		WithField("backends." + backend + ".plugin").
		WithRemedy("put the binary beside openhands-rt, set plugin_dir, or give its path as command")
}
