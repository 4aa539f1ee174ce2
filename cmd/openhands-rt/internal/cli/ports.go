package cli

import (
	"bufio"
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
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
	Port uint16 `json:"port"`
	URL  string `json:"url"`
}

// listPorts reads the kernel's list inside the runtime: runtime/v1 has no call for it.
func (a *app) listPorts(ctx context.Context, rt *runtimev1.Runtime) error {
	op := "list ports of runtime " + rt.GetId()
	act, err := action.New(action.KindProcess, &action.Process{Argv: []string{"cat", "/proc/net/tcp", "/proc/net/tcp6"}}, interruptWithin)
	if err != nil {
		return err
	}
	resp, err := a.d.Actions.RunAction(ctx, connect.NewRequest(&runtimev1.RunActionRequest{RuntimeId: rt.GetId(), Action: act}))
	if err != nil {
		return a.d.Explain(op, err)
	}
	var table []byte
	for _, out := range resp.Msg.GetOutput() {
		if out.GetChannel() == agentv1.Channel_CHANNEL_STDOUT {
			table = append(out.GetHead(), out.GetTail()...)
		}
	}
	if len(table) == 0 {
		return rterr.New(rterr.Unsupported, op, "the sandbox does not show its sockets")
	}
	list := make([]openPort, 0)
	for _, port := range listening(table) {
		end, err := a.d.Runtimes.GetEndpoint(ctx, connect.NewRequest(&runtimev1.GetEndpointRequest{RuntimeId: rt.GetId(), Port: uint32(port)}))
		if err != nil {
			return a.d.Explain(op, err)
		}
		list = append(list, openPort{port, end.Msg.GetUrl()})
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

// stateListen is the kernel's number of the state in /proc/net/tcp.
const stateListen = "0A"

// listening returns the ports in state LISTEN of a /proc/net/tcp table, sorted, each once. Lines that are none are skipped.
func listening(table []byte) []uint16 {
	var ports []uint16
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != stateListen {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil && port != 0 {
			ports = append(ports, uint16(port))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
