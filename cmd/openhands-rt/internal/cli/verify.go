package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/sdk/conformance"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

type verifyFlags struct {
	address, configFile string
	badConfigs          []string
	env, only           []string
	workspaces          string
	timeout             time.Duration
	parallel            int
	verbose             bool
}

func (a *app) pluginsVerify() *cobra.Command {
	f := &verifyFlags{}
	c := &cobra.Command{
		Use: "verify (PLUGIN [ARG...] | --address ADDR)", Short: "Hold a plugin against the backend contract, clause by clause",
		Long: `Hold a plugin against the backend contract. The binary is launched, used, killed and launched again; all that it makes is
ended. A clause that is broken is named with its rule and with what was seen. Exit code 1 if there is one.

To see that, verify a plugin that is broken on purpose; sdk/conformance/internal/broken has several:

  go build -o twice ./sdk/conformance/internal/broken/twice && openhands-rt plugins verify ./twice`,
		Example: `  openhands-rt plugins verify ./openhands-rt-plugin-local
  openhands-rt plugins verify ./openhands-rt-plugin-local --workspaces "$(mktemp -d)"
  openhands-rt plugins verify ./my-plugin --plugin-config config.json --only connect,close -o json
  openhands-rt plugins verify --address unix:///run/my-backend.sock`,
		RunE: func(c *cobra.Command, args []string) error { return a.verify(c.Context(), f, args) },
	}
	fs := c.Flags()
	fs.StringVar(&f.address, "address", "", "verify a backend that runs already, at unix:///path or host:port")
	fs.StringVar(&f.configFile, "plugin-config", "", "file with the JSON object for Configure")
	fs.StringArrayVar(&f.badConfigs, "bad-config", nil, "JSON object that Configure must refuse")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "environment of the plugin, as K=V")
	fs.StringSliceVar(&f.only, "only", nil, "clauses or groups of clauses to run")
	fs.StringVar(&f.workspaces, "workspaces", "", "folder for workspaces, for plugins whose sandboxes are on this machine")
	fs.DurationVar(&f.timeout, "timeout", 0, "how long one clause may take (default: 2m)")
	fs.IntVar(&f.parallel, "parallel", 0, "how many clauses run at once (default: 4)")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "show what the plugin writes")
	return c
}

func (a *app) verify(ctx context.Context, f *verifyFlags, command []string) error {
	if (len(command) == 0) == (f.address == "") {
		return usagef("name a plugin binary, or a running backend with --address")
	}
	if f.workspaces != "" {
		if info, err := os.Stat(f.workspaces); err != nil || !info.IsDir() {
			return usagef("--workspaces %s is no folder; make it first", f.workspaces)
		}
	}
	state, err := os.MkdirTemp("", "openhands-rt-verify-*")
	if err != nil {
		return err
	}
	defer func() {
		if err := os.RemoveAll(state); err != nil {
			a.note("%v", err)
		}
	}()
	target := conformance.Target{Command: command, Address: f.address, Env: f.env, StateDir: state, Workspaces: f.workspaces, Timeout: f.timeout}
	if target.Config, err = pluginConfig(f.configFile); err != nil {
		return err
	}
	for _, bad := range f.badConfigs {
		target.BadConfigs = append(target.BadConfigs, json.RawMessage(bad))
	}
	options := conformance.Options{Only: f.only, Parallel: f.parallel, Report: a.reportClause()}
	if f.verbose {
		options.Logger = hclog.New(&hclog.LoggerOptions{Name: "verify", Output: a.env.Err, Level: hclog.Debug})
	}
	results, err := conformance.Run(ctx, target, options)
	if err != nil {
		return err
	}
	return a.verdict(results)
}

func pluginConfig(file string) (json.RawMessage, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, rterr.Wrap(rterr.ConfigInvalid, "read --plugin-config", err)
	}
	if !json.Valid(raw) {
		return nil, rterr.New(rterr.ConfigInvalid, "read --plugin-config", "%s is no JSON", file)
	}
	return raw, nil
}

// reportClause prints each result as it comes.
func (a *app) reportClause() func(conformance.Result) {
	p := a.printer()
	return func(r conformance.Result) {
		if p.Format == "json" {
			line, err := json.Marshal(r)
			if err != nil {
				line = []byte(fmt.Sprintf("%q", r.String()))
			}
			fmt.Fprintf(a.env.Out, "%s\n", line)
			return
		}
		fmt.Fprintln(a.env.Out, r)
	}
}

func (a *app) verdict(results []conformance.Result) error {
	failed := conformance.Failed(results)
	skipped := 0
	for _, r := range results {
		if r.Status == conformance.Skip {
			skipped++
		}
	}
	if a.flags.output != "json" {
		fmt.Fprintf(a.env.Out, "\n%s: %d passed, %d failed, %d skipped\n",
			counted(len(results)), len(results)-len(failed)-skipped, len(failed), skipped)
	}
	if len(failed) == 0 {
		return nil
	}
	var names []string
	for _, r := range failed {
		names = append(names, r.Clause)
	}
	slices.Sort(names)
	return rterr.New(rterr.Integrity, "verify plugin", "it breaks %s of the contract", counted(len(failed))).
		With("clauses", fmt.Sprint(names)).WithRemedy("see the rule and what was seen under each; run one alone with --only CLAUSE")
}

func counted(clauses int) string {
	if clauses == 1 {
		return "1 clause"
	}
	return fmt.Sprintf("%d clauses", clauses)
}
