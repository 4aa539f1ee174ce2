package cli

import (
	"context"
	"strconv"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

// getOrDefault finds the runtime that is named, or that of the environment.
func (a *app) getOrDefault(ctx context.Context, ref string) (*runtimev1.Runtime, error) {
	if ref == "" {
		ref = a.env.Getenv(envRuntime)
	}
	if ref == "" {
		return nil, usagef("no runtime: name one with --runtime (see `openhands-rt runtimes ls`)")
	}
	return a.get(ctx, ref)
}

func (a *app) portsCommand() *cobra.Command {
	var runtime string
	ls := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the TCP ports on which something in a runtime listens", Args: noArgs,
		Example: "  openhands-rt ports ls --runtime demo",
		RunE: func(c *cobra.Command, _ []string) error {
			rt, err := a.getOrDefault(c.Context(), runtime)
			if err != nil {
				return err
			}
			return a.listPorts(c.Context(), rt)
		},
	}
	ls.Flags().StringVarP(&runtime, "runtime", "r", "", "runtime: its id or its session id ("+envRuntime+")")
	return parent("ports", "See the ports of a runtime", "  openhands-rt ports ls --runtime demo\n  openhands-rt url 8080 --runtime demo", ls)
}

// openPort is one line of `ports ls`.
type openPort struct {
	Port uint32 `json:"port"`
	URL  string `json:"url"`
}

func (a *app) listPorts(ctx context.Context, rt *runtimev1.Runtime) error {
	resp, err := a.d.Runtimes.ListPorts(ctx, connect.NewRequest(&runtimev1.ListPortsRequest{RuntimeId: rt.GetId()}))
	if err != nil {
		return a.d.Explain("list ports of runtime "+rt.GetId(), err)
	}
	list := make([]openPort, 0, len(resp.Msg.GetPorts()))
	for _, o := range resp.Msg.GetPorts() {
		list = append(list, openPort{o.GetPort(), o.GetUrl()})
	}
	p := a.printer()
	return p.Value(map[string]any{"ports": list}, func() error {
		rows := make([][]string, 0, len(list))
		for _, o := range list {
			rows = append(rows, []string{strconv.Itoa(int(o.Port)), o.URL})
		}
		return p.Table([]string{"PORT", "URL"}, rows)
	})
}
