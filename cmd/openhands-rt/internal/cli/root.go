package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
)

const orientation = `openhands-rt runs commands in sandboxes, once and to the end, through one daemon.

First steps:
  openhands-rt serve                          start the daemon (leave it running in a terminal of its own)
  openhands-rt exec --new -- uname -a         run a command in a new sandbox, which ends with it
  openhands-rt shell --new                    look around in one

Work in a sandbox that stays:
  R=$(openhands-rt runtimes start --workspace .)
  openhands-rt exec --runtime $R -- make test
  openhands-rt cp ./data $R:/workspace/data
  openhands-rt runtimes stop $R

See what is there:
  openhands-rt runtimes ls      openhands-rt actions ls      openhands-rt backends ls

Every command explains itself with --help, and speaks JSON with -o json.
`

const rootHelp = `openhands-rt is one daemon between agents and the sandboxes in which their actions run.

The commands find the daemon of this machine by themselves. Another one is named by --url and --key-file, or by
OPENHANDS_RT_URL and OPENHANDS_RT_KEY or OPENHANDS_RT_KEY_FILE.`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "openhands-rt", Short: "Run commands in sandboxes, once and to the end", Long: rootHelp,
		Args: noArgs, SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkFlags() },
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.env.Out, orientation)
			return err
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.flags.url, "url", "", "URL of the daemon (OPENHANDS_RT_URL)")
	f.StringVar(&a.flags.keyFile, "key-file", "", "file with the API key (OPENHANDS_RT_KEY_FILE, or the key itself in OPENHANDS_RT_KEY)")
	f.StringVar(&a.flags.dataDir, "data-dir", "", "the daemon's data folder, where it says where it listens (OPENHANDS_RT_DATA_DIR)")
	f.StringVarP(&a.flags.output, "output", "o", string(render.FormatTable), "how results are written: table or json")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(&cobra.Group{ID: groupWork, Title: "Work in sandboxes:"}, &cobra.Group{ID: groupSee, Title: "See and manage:"},
		&cobra.Group{ID: groupDaemon, Title: "The daemon:"})
	for group, commands := range map[string][]*cobra.Command{
		groupWork:   {a.execCommand(), a.runCommand(), a.shellCommand(), a.cpCommand(), a.workspaceCommand()},
		groupSee:    {a.runtimesCommand(), a.actionsCommand(), a.portsCommand(), a.urlCommand(), a.backendsCommand(), a.eventsCommand()},
		groupDaemon: a.daemonCommands(),
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID(groupDaemon)
	root.SetCompletionCommandGroupID(groupDaemon)
	return root
}

// The groups of the help text.
const (
	groupWork   = "work"
	groupSee    = "see"
	groupDaemon = "daemon"
)

func (a *app) checkFlags() error {
	switch render.Format(a.flags.output) {
	case render.FormatTable, render.FormatJSON:
		return nil
	default:
		return usagef("--output must be table or json, not %q", a.flags.output)
	}
}

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// noArgs, exactArgs, maxArgs and minArgs are cobra's, as usage errors.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if suggestions := c.SuggestionsFor(args[0]); len(suggestions) > 0 {
		return usagef("unknown command %q; did you mean %q?", args[0], suggestions[0])
	}
	if c.HasSubCommands() {
		return usagef("unknown command %q", args[0])
	}
	return usagef("takes no arguments, got %q", args[0])
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("takes %d arguments (%s), got %d", n, c.Use, len(args))
		}
		return nil
	}
}

func maxArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := cobra.MaximumNArgs(n)(c, args); err != nil {
			return usagef("takes at most %d arguments (%s), got %d", n, c.UseLine(), len(args))
		}
		return nil
	}
}

func minArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("needs at least %d arguments (%s)", n, c.Use)
		}
		return nil
	}
}

// parent is a command that only holds others.
func parent(use, short, example string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(children...)
	return c
}
