package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/cmd/openhands-rt/internal/cli/render"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func (a *app) eventsCommand() *cobra.Command {
	var runtime string
	var follow bool
	var after uint64
	var limit uint32
	c := &cobra.Command{
		Use: "events", Short: "Print what happened to your runtimes, oldest first", Args: noArgs,
		Example: "  openhands-rt events --runtime demo\n  openhands-rt events --follow -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := a.dial(); err != nil {
				return err
			}
			id := ""
			if runtime != "" {
				rt, err := a.get(c.Context(), runtime)
				if err != nil {
					return err
				}
				id = rt.GetId()
			}
			if follow {
				return a.followEvents(c.Context(), &runtimev1.WatchEventsRequest{RuntimeId: id, AfterSequence: after})
			}
			return a.events(c.Context(), &runtimev1.ListEventsRequest{RuntimeId: id, AfterSequence: after, Limit: limit})
		},
	}
	c.Flags().StringVarP(&runtime, "runtime", "r", "", "only those of one runtime: its id or session id")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	c.Flags().Uint64Var(&after, "after", 0, "only those after this sequence number")
	c.Flags().Uint32Var(&limit, "limit", 0, "how many at most, without --follow (default: the daemon's)")
	return c
}

// events prints a page.
func (a *app) events(ctx context.Context, req *runtimev1.ListEventsRequest) error {
	resp, err := a.d.Runtimes.ListEvents(ctx, connect.NewRequest(req))
	if err != nil {
		return a.d.Explain("list events", err)
	}
	for _, ev := range resp.Msg.GetEvents() {
		if err := a.event(ev); err != nil {
			return err
		}
	}
	return nil
}

// followEvents prints what there is, and what comes.
func (a *app) followEvents(ctx context.Context, req *runtimev1.WatchEventsRequest) error {
	const op = "watch events"
	stream, err := a.d.Runtimes.WatchEvents(ctx, connect.NewRequest(req))
	if err != nil {
		return a.d.Explain(op, err)
	}
	defer func() { _ = stream.Close() }() // what it would report, Err has reported
	for stream.Receive() {
		if err := a.event(stream.Msg().GetEvent()); err != nil {
			return err
		}
	}
	return a.d.Explain(op, stream.Err())
}

func (a *app) event(ev *runtimev1.RuntimeEvent) error {
	p := a.printer()
	return p.Line(ev, func() error { return p.Text("%6d %s", ev.GetSequence(), eventText(ev)) })
}

func watchText(m *runtimev1.WatchRuntimeResponse) string {
	if m.GetEvent() == nil {
		rt := m.GetRuntime()
		return fmt.Sprintf("%s %s is %s", clock(rt.GetUpdatedAt().AsTime()), rt.GetId(), stateText(rt))
	}
	return eventText(m.GetEvent())
}

func stateText(rt *runtimev1.Runtime) string {
	text := runtimeStatus(rt)
	if phase(rt) != "" {
		text += " (" + phase(rt) + ")"
	}
	if rt.GetMessage() != "" {
		text += ": " + render.Cell(rt.GetMessage())
	}
	return text
}

// eventText is one line about an event.
func eventText(ev *runtimev1.RuntimeEvent) string {
	return fmt.Sprintf("%s %s/%d %s", clock(ev.GetAt().AsTime()), ev.GetRuntimeId(), ev.GetGeneration(), render.Cell(whatText(ev)))
}

func whatText(ev *runtimev1.RuntimeEvent) string {
	switch e := ev.GetEvent().(type) {
	case *runtimev1.RuntimeEvent_Status:
		return "status " + render.Enum(e.Status.GetFrom().String(), "RUNTIME_STATUS_") + " -> " +
			render.Enum(e.Status.GetTo().String(), "RUNTIME_STATUS_") + colon(e.Status.GetMessage()) +
			colon(e.Status.GetError().GetMessage())
	case *runtimev1.RuntimeEvent_Step:
		return "step " + stepText(e.Step)
	case *runtimev1.RuntimeEvent_Phase:
		return "phase " + render.Enum(e.Phase.GetPhase().String(), "PHASE_") + colon(e.Phase.GetMessage())
	case *runtimev1.RuntimeEvent_Action:
		return actionText(e.Action)
	case *runtimev1.RuntimeEvent_Missed:
		return fmt.Sprintf("missed %d events", e.Missed)
	case *runtimev1.RuntimeEvent_Adopted:
		return "looked for its sandbox: " + render.Enum(e.Adopted.GetAdoption().String(), "ADOPTION_") + colon(e.Adopted.GetMessage())
	case *runtimev1.RuntimeEvent_Recovery:
		r := e.Recovery
		return fmt.Sprintf("recovery of %s: %s, %s, attempt %d in %s%s", r.GetOperation(), r.GetClass(), r.GetStrategy(),
			r.GetAttempt(), r.GetDelay().AsDuration(), colon(r.GetError()))
	default:
		return "something this build does not know"
	}
}

func actionText(e *runtimev1.ActionChanged) string {
	text := "action " + e.GetActionId() + " " + render.Enum(e.GetState().String(), "ACTION_STATE_")
	if outcome := render.Enum(e.GetOutcome().String(), "OUTCOME_"); outcome != "" {
		text += " " + outcome
	}
	if e.ExitCode != nil {
		text += fmt.Sprintf(" (exit code %d)", e.GetExitCode())
	}
	return text + colon(e.GetSummary())
}

// colon is ": " and s, or nothing.
func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
