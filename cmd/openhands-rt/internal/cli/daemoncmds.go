package cli

import (
	"github.com/spf13/cobra"
)

// daemonCommands are those about the daemon itself and this binary.
func (a *app) daemonCommands() []*cobra.Command {
	return []*cobra.Command{a.serveCommand(), a.emulateCommand(), a.configCommand(), a.pluginsCommand(), a.statesCommand(), a.versionCommand()}
}

func (a *app) pluginsCommand() *cobra.Command {
	return parent("plugins", "See and verify plugins", "  openhands-rt plugins ls\n  openhands-rt plugins verify ./openhands-rt-plugin-local",
		a.pluginsLs(), a.pluginsVerify())
}
