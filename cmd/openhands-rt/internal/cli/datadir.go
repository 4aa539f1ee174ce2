package cli

import (
	"os"
	"path/filepath"
)

// defaultDataDir is where a daemon of this user keeps what it has when nothing else is configured.
func (a *app) defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/openhands-rt"
	}
	if dir := a.env.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "openhands-rt")
	}
	return filepath.Join(a.env.Getenv("HOME"), ".local", "state", "openhands-rt")
}
