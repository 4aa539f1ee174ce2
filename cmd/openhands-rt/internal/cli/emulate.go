package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
)

// emulateDelay is how long a devbox stays in each state unless the user says something else: short, and long enough to be seen.
const emulateDelay = 300 * time.Millisecond

func (a *app) emulateCommand() *cobra.Command {
	return parent("emulate", "Stand in for a provider on this machine", "  openhands-rt emulate runloop", a.emulateRunloop())
}

// emulateFlags are those of emulate runloop.
type emulateFlags struct {
	config  emulator.Config
	faults  string
	verbose bool
}

func (a *app) emulateRunloop() *cobra.Command {
	f := &emulateFlags{}
	c := &cobra.Command{
		Use: "runloop", Short: "Serve Runloop's API with devboxes of this machine", Args: noArgs,
		Long: `Serve Runloop's public API in the foreground until INT or TERM. Devboxes are real: each has a disk, processes, terminals and
ports of its own, in namespaces of this machine. Nothing of them is left when the emulator ends.

Faults are KIND[:NAME=VALUE,...] separated by semicolons. The kinds are latency, 429, 5xx, drop_before, drop_after, expired_key,
quota, slow_boot, failed_boot, evict and tunnel_cut; the names are p (probability), count, delay, path and method. They can be
changed while it runs: POST /_emulator/faults. GET /_emulator/stats counts devboxes.`,
		Example: `  openhands-rt emulate runloop
  openhands-rt emulate runloop --listen 127.0.0.1:8085 --tunnel-listen 127.0.0.1:8086 --key ak_mine --delay 2s
  openhands-rt emulate runloop --seed 7 --faults '429:p=0.1,delay=200ms;drop_after:method=POST,count=1'`,
		RunE: func(c *cobra.Command, _ []string) error { return a.emulate(c.Context(), f) },
	}
	flags := c.Flags()
	flags.StringVar(&f.config.Listen, "listen", "127.0.0.1:8085", "address of the API")
	flags.StringVar(&f.config.TunnelListen, "tunnel-listen", "127.0.0.1:8086", "address of the tunnels")
	flags.StringVar(&f.config.Key, "key", emulator.DefaultKey, "API key that is accepted")
	flags.StringVar(&f.config.DataDir, "data-dir", "", "folder for the disks (the system's folder for temporary files)")
	flags.DurationVar(&f.config.Delay, "delay", emulateDelay, "how long a devbox stays in each state on its way")
	flags.StringVar(&f.faults, "faults", "", "how the service misbehaves")
	flags.Uint64Var(&f.config.Seed, "seed", 1, "which requests are hit by faults that have a probability")
	flags.IntVar(&f.config.Quota, "quota", 0, "how many devboxes may be alive at once (0: any number)")
	flags.BoolVar(&f.config.NoReplay, "no-replay", false, "repeat the effect of a POST whose x-request-id is known")
	flags.BoolVar(&f.verbose, "verbose", false, "write a line for each request to stderr")
	return c
}

func (a *app) emulate(ctx context.Context, f *emulateFlags) error {
	faults, err := emulator.ParseFaults(f.faults)
	if err != nil {
		return err
	}
	f.config.Faults = faults
	if f.verbose {
		f.config.Log = hclog.New(&hclog.LoggerOptions{Name: "emulator", Level: hclog.Debug, Output: a.env.Err})
	}
	s, err := emulator.Start(ctx, f.config)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.env.Out, "export RUNLOOP_BASE_URL=%s\nexport RUNLOOP_API_KEY=%s\nexport RUNLOOP_TUNNEL_TEMPLATE='%s'\n",
		s.URL(), s.Key(), s.TunnelTemplate())
	<-ctx.Done()
	stats := s.Stats()
	s.Close()
	fmt.Fprintln(a.env.Out, stats)
	return nil
}
