package cli

import (
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

func (a *app) listBackends(c *cobra.Command, table func(*render.Printer, []*runtimev1.Backend) error) error {
	d, err := a.dial()
	if err != nil {
		return err
	}
	resp, err := d.Runtimes.ListBackends(c.Context(), connect.NewRequest(&runtimev1.ListBackendsRequest{}))
	if err != nil {
		return d.Explain("list backends", err)
	}
	p := a.printer()
	return p.Message(resp.Msg, func() error { return table(p, resp.Msg.GetBackends()) })
}

func (a *app) backendsCommand() *cobra.Command {
	ls := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the configured backends and what they can do", Args: noArgs,
		Example: "  openhands-rt backends ls",
		RunE:    func(c *cobra.Command, _ []string) error { return a.listBackends(c, backendsTable) },
	}
	return parent("backends", "See the backends", "  openhands-rt backends ls", ls)
}

func backendsTable(p *render.Printer, list []*runtimev1.Backend) error {
	rows := make([][]string, 0, len(list))
	for _, b := range list {
		name := b.GetName()
		if b.GetIsDefault() {
			name += " *"
		}
		rows = append(rows, []string{
			name, b.GetPlugin(), pluginState(b), b.GetCapabilities().GetIsolation(),
			strconv.Itoa(int(b.GetRuntimes())), strings.Join(abilities(b.GetCapabilities()), ","), strings.Join(b.GetWarnings(), "; "),
		})
	}
	return p.Table([]string{"NAME", "PLUGIN", "STATE", "ISOLATION", "RUNTIMES", "CAN", "WARNINGS"}, rows)
}

func pluginState(b *runtimev1.Backend) string {
	return render.Enum(b.GetState().String(), "PLUGIN_STATE_")
}

// abilities are the names of what a backend can do.
func abilities(c *backendv1.Capabilities) []string {
	var list []string
	for _, can := range []struct {
		name string
		ok   bool
	}{
		{"pause", c.GetPause()}, {"ports", c.GetPorts()}, {"vscode", c.GetVscode()}, {"snapshot", c.GetSnapshot()},
		{"memory", c.GetLimitMemory()}, {"cpu", c.GetLimitCpu()}, {"pids", c.GetLimitPids()},
		{"workspace", c.GetWorkspaceMount()}, {"tree", c.GetWholeTree()}, {"once", c.GetOnceOnly()},
	} {
		if can.ok {
			list = append(list, can.name)
		}
	}
	return list
}

// pluginsLs lists the processes behind the backends.
func (a *app) pluginsLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the plugins of the backends and how they are", Args: noArgs,
		Example: "  openhands-rt plugins ls",
		RunE:    func(c *cobra.Command, _ []string) error { return a.listBackends(c, pluginsTable) },
	}
}

func pluginsTable(p *render.Printer, list []*runtimev1.Backend) error {
	rows := make([][]string, 0, len(list))
	for _, b := range list {
		pid := ""
		if b.GetPid() > 0 {
			pid = strconv.FormatInt(b.GetPid(), 10)
		}
		rows = append(rows, []string{
			b.GetName(), b.GetPlugin(), b.GetVersion(), pluginState(b), pid, strconv.Itoa(int(b.GetRestarts())), b.GetSource(), b.GetLastError(),
		})
	}
	if err := p.Table([]string{"BACKEND", "PLUGIN", "VERSION", "STATE", "PID", "RESTARTS", "SOURCE", "LAST ERROR"}, rows); err != nil {
		return err
	}
	for _, b := range list {
		if b.GetState() == runtimev1.PluginState_PLUGIN_STATE_RUNNING || len(b.GetLastLines()) == 0 {
			continue
		}
		if err := p.Text("\nlast lines of %s:\n  %s", b.GetName(), strings.Join(cells(b.GetLastLines()), "\n  ")); err != nil {
			return err
		}
	}
	return nil
}

func cells(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = render.Cell(l)
	}
	return out
}

func (a *app) urlCommand() *cobra.Command {
	var runtime string
	c := &cobra.Command{
		Use: "url PORT", Short: "Print the URL of a port of a runtime", Args: exactArgs(1),
		Long:    "Print the URL under which a port of a runtime is reached. The header that it needs is in -o json.",
		Example: "  openhands-rt url 8080 --runtime demo",
		RunE: func(c *cobra.Command, args []string) error {
			port, err := strconv.ParseUint(args[0], 10, 16)
			if err != nil || port == 0 {
				return usagef("%q is no port", args[0])
			}
			rt, err := a.getOrDefault(c.Context(), runtime)
			if err != nil {
				return err
			}
			resp, err := a.d.Runtimes.GetEndpoint(c.Context(), connect.NewRequest(&runtimev1.GetEndpointRequest{RuntimeId: rt.GetId(), Port: uint32(port)}))
			if err != nil {
				return a.d.Explain("find port "+args[0]+" of runtime "+rt.GetId(), err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error { return p.Text("%s", resp.Msg.GetUrl()) })
		},
	}
	c.Flags().StringVarP(&runtime, "runtime", "r", "", "runtime: its id or its session id ("+envRuntime+")")
	return c
}
