package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/daemon"
	"github.com/openhands-rt/openhands-rt/host/config"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// configFlags choose the daemon's configuration.
type configFlags struct {
	file                  string
	listen, sandboxListen string
	backend, logLevel     string
	set                   []string
}

func (c *configFlags) bind(f *pflag.FlagSet) {
	f.StringVarP(&c.file, "config", "c", "", "configuration file (OPENHANDS_RT_CONFIG)")
	f.StringVar(&c.listen, "listen", "", "address of the API; port 0 takes a free one")
	f.StringVar(&c.sandboxListen, "sandbox-listen", "", "address under which sandboxes are reached")
	f.StringVar(&c.backend, "default-backend", "", "backend of new runtimes")
	f.StringVar(&c.logLevel, "log-level", "", "lowest level that is logged")
	f.StringArrayVar(&c.set, "set", nil, "any key of the configuration, as limits.queue=10")
}

// loadConfig reads the daemon's configuration as every command that shows or uses it does.
func (a *app) loadConfig(c *configFlags) (*config.Config, *config.Provenance, error) {
	flags := map[string]any{}
	for key, value := range map[string]string{
		"data_dir": a.flags.dataDir, "listen": c.listen, "sandbox_listen": c.sandboxListen,
		"default_backend": c.backend, "log.level": c.logLevel,
	} {
		if value != "" {
			flags[key] = value
		}
	}
	for _, pair := range c.set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, nil, usagef("--set: %q is not KEY=VALUE", pair)
		}
		flags[key] = value
	}
	return config.Load(config.Options{
		File: c.file, Environ: a.env.Environ, Flags: flags,
		AllowEnv: []string{daemon.EnvURL, daemon.EnvKey, daemon.EnvKeyFile, envRuntime, envConfig},
	})
}

// envConfig names the configuration file.
const envConfig = "OPENHANDS_RT_CONFIG"

// defaultDataDir is where a daemon of this user keeps what it has: as the configuration that the environment names says, else
// the usual place. A broken configuration is for `config check` to tell.
func (a *app) defaultDataDir() string {
	if a.env.Getenv(envConfig) != "" {
		if c, _, err := a.loadConfig(&configFlags{}); err == nil {
			return c.DataDir
		}
	}
	return config.DefaultDataDir(a.env.Environ)
}

func (a *app) configCommand() *cobra.Command {
	return parent("config", "Check and show the daemon's configuration", `  openhands-rt config check openhands-rt.yaml
  openhands-rt config show
  openhands-rt config schema > openhands-rt.schema.json`, a.configCheck(), a.configShow(), a.configSchema())
}

func (a *app) configCheck() *cobra.Command {
	f := &configFlags{}
	c := &cobra.Command{
		Use: "check [FILE]", Short: "Check the configuration, and name everything that is wrong with it", Args: maxArgs(1),
		Example: "  openhands-rt config check openhands-rt.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.file = args[0]
			}
			if _, _, err := a.loadConfig(f); err != nil {
				return a.problems(err)
			}
			p := a.printer()
			return p.Value(map[string]bool{"ok": true}, func() error { return p.Text("the configuration is good") })
		},
	}
	f.bind(c.Flags())
	return c
}

// problems says all that is wrong but the last, which it returns to be said as the command's own error.
func (a *app) problems(err error) error {
	all, ok := errors.AsType[*config.Problems](err)
	if !ok || len(all.List) == 0 {
		return err
	}
	last := len(all.List) - 1
	for _, e := range all.List[:last] {
		a.say(e)
	}
	return all.List[last]
}

func (a *app) configShow() *cobra.Command {
	f := &configFlags{}
	c := &cobra.Command{
		Use: "show", Short: "Show the configuration in force, and where each value comes from", Args: noArgs,
		Long:    "Show the configuration that a daemon started here would have, and where each value comes from. Secrets are masked.",
		Example: "  openhands-rt config show\n  OPENHANDS_RT_LISTEN=127.0.0.1:0 openhands-rt config show -o json",
		RunE: func(*cobra.Command, []string) error {
			cfg, from, err := a.loadConfig(f)
			if err != nil {
				return a.problems(err)
			}
			p := a.printer()
			masked := cfg.Masked()
			return p.Value(masked, func() error {
				rows, err := configRows(masked, from)
				if err != nil {
					return err
				}
				return p.Table([]string{"KEY", "VALUE", "FROM"}, rows)
			})
		},
	}
	f.bind(c.Flags())
	return c
}

// configRows are the keys with their values and sources.
func configRows(c *config.Config, from *config.Provenance) ([][]string, error) {
	tree, err := treeOf(c)
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "show configuration", err)
	}
	var rows [][]string
	for _, key := range config.Keys() {
		value, ok := lookup(tree, key)
		if !ok {
			continue
		}
		rows = append(rows, []string{key, value, fmt.Sprint(from.Of(key))})
	}
	return rows, nil
}

func (a *app) configSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration file", Args: noArgs,
		Example: "  openhands-rt config schema > openhands-rt.schema.json",
		RunE: func(*cobra.Command, []string) error {
			raw, err := config.Schema()
			if err != nil {
				return err
			}
			return a.printer().Text("%s", strings.TrimSpace(string(raw)))
		},
	}
}
