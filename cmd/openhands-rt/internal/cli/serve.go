package cli

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/terminal"
	"github.com/openhands-rt/openhands-rt/host"
	"github.com/openhands-rt/openhands-rt/host/config"
	"github.com/openhands-rt/openhands-rt/host/telemetry/logging"
)

func (a *app) serveCommand() *cobra.Command {
	f := &configFlags{}
	c := &cobra.Command{
		Use: "serve", Short: "Run the daemon", Args: noArgs,
		Long: `Run the daemon in the foreground until INT or TERM. Sandboxes and their actions outlive it: the next start takes them up
again. HUP reads the configuration anew. Once it is ready, the data folder has endpoint.json, by which every other command
finds it; the first start mints the API key.`,
		Example: `  openhands-rt serve
  openhands-rt serve --config openhands-rt.yaml --listen 127.0.0.1:0
  openhands-rt serve --data-dir /tmp/rt --set limits.queue=10`,
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), f) },
	}
	f.bind(c.Flags())
	return c
}

func (a *app) serve(ctx context.Context, f *configFlags) error {
	cfg, _, err := a.loadConfig(f)
	if err != nil {
		return a.problems(err)
	}
	log, closer, err := logging.New(logging.Config{
		Level: cfg.Log.Level, Levels: cfg.Log.Levels, Format: cfg.Log.Format, File: cfg.Log.File,
		MaxSizeMB: max(1, int(cfg.Log.MaxSize/config.MiB)), MaxBackups: cfg.Log.MaxFiles, Output: a.env.Err,
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := closer.Close(); err != nil {
			a.note("close the log: %v", err)
		}
	}()
	reload := make(chan *config.Config, 1)
	defer a.handle(func(sig os.Signal) {
		if sig != syscall.SIGHUP {
			a.end(sig)
			return
		}
		a.reload(f, log, reload)
	})()
	return host.Run(ctx, host.Options{Config: cfg, Logger: log, Reload: reload, Ready: a.serving, Version: readVersion().Version})
}

// reload reads the configuration anew; a broken one is logged and the daemon goes on with what it has.
func (a *app) reload(f *configFlags, log hclog.Logger, to chan *config.Config) {
	cfg, _, err := a.loadConfig(f)
	if err != nil {
		log.Error("the config was not reloaded", "error", err)
		return
	}
	select {
	case <-to: // one that was not taken yet is out of date
	default:
	}
	to <- cfg // nobody else sends
}

// serving says on stdout that requests are taken, for whoever waits for that, and tells a person what to do next.
func (a *app) serving(e host.Endpoint) {
	fmt.Fprintf(a.env.Out, "openhands-rt is ready at %s\n", e.URL)
	if terminal.Is(a.env.Err) {
		a.note("in another terminal: openhands-rt exec --new -- uname -a")
	}
}
