package cli

import "github.com/openhands-rt/openhands-rt/host/config"

// defaultDataDir is where a daemon of this user keeps what it has when nothing else is configured.
func (a *app) defaultDataDir() string { return config.DefaultDataDir(a.env.Environ) }
