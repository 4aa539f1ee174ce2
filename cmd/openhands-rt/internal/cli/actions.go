package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

func (a *app) actionsCommand() *cobra.Command {
	c := parent("actions", "See, attach to and interrupt actions", `  openhands-rt actions ls --active
  openhands-rt actions attach a-4tzq
  openhands-rt actions interrupt a-4tzq --level kill`,
		a.actionsLs(), a.actionsShow(), a.actionsAttach(), a.actionsInterrupt())
	c.Aliases = []string{"action"}
	return c
}

func (a *app) actionsLs() *cobra.Command {
	req := &runtimev1.ListActionsRequest{}
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List actions, newest first", Args: noArgs,
		Example: "  openhands-rt actions ls --runtime demo\n  openhands-rt actions ls --active -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.dial()
			if err != nil {
				return err
			}
			if req.GetRuntimeId() != "" {
				rt, err := a.get(c.Context(), req.GetRuntimeId())
				if err != nil {
					return err
				}
				req.RuntimeId = rt.GetId()
			}
			resp, err := d.Actions.ListActions(c.Context(), connect.NewRequest(req))
			if err != nil {
				return d.Explain("list actions", err)
			}
			p := a.printer()
			return p.Message(resp.Msg, func() error { return actionsTable(p, resp.Msg.GetActions()) })
		},
	}
	c.Flags().StringVarP(&req.RuntimeId, "runtime", "r", "", "only those of one runtime: its id or session id")
	c.Flags().BoolVar(&req.Active, "active", false, "only those that wait or run")
	c.Flags().Uint32Var(&req.Limit, "limit", 0, "how many (default: the daemon's)")
	return c
}

func actionsTable(p *render.Printer, list []*runtimev1.ActionInfo) error {
	rows := make([][]string, 0, len(list))
	for _, info := range list {
		r := info.GetRecord()
		rows = append(rows, []string{
			r.GetId(), info.GetRuntimeId(), r.GetKind(), actionState(r), exitText(r), p.Age(r.GetCreatedAt()), tookText(p, r), r.GetSummary(),
		})
	}
	return p.Table([]string{"ID", "RUNTIME", "KIND", "STATE", "EXIT", "AGE", "TOOK", "COMMAND"}, rows)
}

// actionState is the outcome of an action that is done, the state of another.
func actionState(r *agentv1.ActionRecord) string {
	if outcome := render.Enum(r.GetObservation().GetOutcome().String(), "OUTCOME_"); outcome != "" {
		return outcome
	}
	return render.Enum(r.GetState().String(), "ACTION_STATE_")
}

func exitText(r *agentv1.ActionRecord) string {
	if obs := r.GetObservation(); obs != nil && obs.ExitCode != nil {
		return strconv.Itoa(int(obs.GetExitCode()))
	}
	return ""
}

func tookText(p *render.Printer, r *agentv1.ActionRecord) string {
	if r.GetStartedAt() == nil {
		return ""
	}
	end := p.Now()
	if r.GetFinishedAt() != nil {
		end = r.GetFinishedAt().AsTime()
	}
	took := end.Sub(r.GetStartedAt().AsTime())
	if took < time.Minute {
		return took.Round(time.Millisecond).String()
	}
	return took.Round(time.Second).String()
}

func (a *app) getAction(ctx context.Context, id string) (*runtimev1.ActionInfo, error) {
	d, err := a.dial()
	if err != nil {
		return nil, err
	}
	resp, err := d.Actions.GetAction(ctx, connect.NewRequest(&runtimev1.GetActionRequest{ActionId: id}))
	if err != nil {
		return nil, d.Explain("find action "+id, err)
	}
	return resp.Msg.GetAction(), nil
}

func (a *app) actionsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an action and how it ended", Args: exactArgs(1),
		Example: "  openhands-rt actions show a-4tzq\n  openhands-rt actions show a-4tzq -o json",
		RunE: func(c *cobra.Command, args []string) error {
			info, err := a.getAction(c.Context(), args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return p.Message(info, func() error { return p.Fields(actionFields(p, info)...) })
		},
	}
}

func actionFields(p *render.Printer, info *runtimev1.ActionInfo) [][2]string {
	r := info.GetRecord()
	obs := r.GetObservation()
	fields := [][2]string{
		{"id", r.GetId()}, {"runtime", info.GetRuntimeId()}, {"generation", strconv.FormatUint(info.GetGeneration(), 10)},
		{"kind", r.GetKind()}, {"command", r.GetSummary()}, {"state", actionState(r)}, {"exit code", exitText(r)},
		{"error", obs.GetError().GetMessage()}, {"remedy", obs.GetError().GetRemedy()},
		{"created", render.Time(r.GetCreatedAt())}, {"started", render.Time(r.GetStartedAt())},
		{"finished", render.Time(r.GetFinishedAt())}, {"took", tookText(p, r)},
	}
	if r.GetPid() > 0 {
		fields = append(fields, [2]string{"pid", strconv.FormatInt(r.GetPid(), 10)})
	}
	if sig := signalOf(obs.GetPayload()); sig != 0 {
		fields = append(fields, [2]string{"signal", strconv.Itoa(int(sig)) + " (" + sig.String() + ")"})
	}
	for _, end := range obs.GetChannels() {
		fields = append(fields, [2]string{
			render.Enum(end.GetChannel().String(), "CHANNEL_"), strconv.FormatUint(end.GetLength(), 10) + " bytes",
		})
	}
	return fields
}

func (a *app) actionsAttach() *cobra.Command {
	var from []string
	var reconnect time.Duration
	c := &cobra.Command{
		Use: "attach ID", Short: "Print an action's output from any place on, and end as it ends", Args: exactArgs(1),
		Long: `Print an action's output, from the beginning or from an offset on, live if it still runs. The exit code is the action's.
Ctrl-C leaves the action running.`,
		Example: `  openhands-rt actions attach a-4tzq
  openhands-rt actions attach a-4tzq --from 1048576              # every channel from this byte on
  openhands-rt actions attach a-4tzq --from stdout=100 --from stderr=0`,
		RunE: func(c *cobra.Command, args []string) error {
			cursors, err := parseFrom(from)
			if err != nil {
				return err
			}
			info, err := a.getAction(c.Context(), args[0])
			if err != nil {
				return ours{err}
			}
			x := a.execution(info.GetRuntimeId(), nil, reconnect)
			x.actionID, x.from, x.interrupts = args[0], cursors, false
			return outcome(x.run(c.Context()))
		},
	}
	c.Flags().StringArrayVar(&from, "from", nil, "offset to start at: N for every channel, or stdout=N, stderr=N, pty=N")
	c.Flags().DurationVar(&reconnect, "reconnect", 30*time.Second, "how long to try to re-attach when the connection to the daemon is lost")
	return c
}

// parseFrom reads "N" and "CHANNEL=N".
func parseFrom(list []string) ([]*agentv1.OutputCursor, error) {
	var cursors []*agentv1.OutputCursor
	for _, item := range list {
		name, number, one := strings.Cut(item, "=")
		if !one {
			name, number = "", item
		}
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, usagef("--from: %q is no offset", item)
		}
		before := len(cursors)
		for _, ch := range []agentv1.Channel{agentv1.Channel_CHANNEL_STDOUT, agentv1.Channel_CHANNEL_STDERR, agentv1.Channel_CHANNEL_PTY} {
			if !one || name == render.Enum(ch.String(), "CHANNEL_") {
				cursors = append(cursors, &agentv1.OutputCursor{Channel: ch, Offset: n})
			}
		}
		if len(cursors) == before {
			return nil, usagef("--from: %q is no channel; they are stdout, stderr and pty", name)
		}
	}
	return cursors, nil
}

func (a *app) actionsInterrupt() *cobra.Command {
	var level string
	c := &cobra.Command{
		Use: "interrupt ID", Short: "Interrupt an action, or withdraw one that waits", Args: exactArgs(1),
		Example: "  openhands-rt actions interrupt a-4tzq\n  openhands-rt actions interrupt a-4tzq --level kill",
		RunE: func(c *cobra.Command, args []string) error {
			l, ok := agentv1.InterruptLevel_value["INTERRUPT_LEVEL_"+strings.ToUpper(level)]
			if !ok || l == 0 {
				return usagef("--level must be interrupt, terminate or kill, not %q", level)
			}
			info, err := a.getAction(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.interruptAction(c.Context(), info, agentv1.InterruptLevel(l))
		},
	}
	c.Flags().StringVar(&level, "level", "interrupt", "how hard: interrupt (as Ctrl-C), terminate, or kill (everything that it began)")
	return c
}

func (a *app) interruptAction(ctx context.Context, info *runtimev1.ActionInfo, level agentv1.InterruptLevel) error {
	id := info.GetRecord().GetId()
	resp, err := a.d.Actions.InterruptAction(ctx, connect.NewRequest(&runtimev1.InterruptActionRequest{
		RuntimeId: info.GetRuntimeId(), ActionId: id, Level: level,
	}))
	if err != nil {
		return a.d.Explain("interrupt action "+id, err)
	}
	p := a.printer()
	return p.Message(resp.Msg, func() error {
		if !resp.Msg.GetSignalled() {
			return p.Text("%s was done already", id)
		}
		return p.Text("%s", id)
	})
}
