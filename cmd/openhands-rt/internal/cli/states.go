package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openhands-rt/openhands-rt/host/lifecycle"
)

// stateRow is one transition as `states -o json` writes it.
type stateRow struct {
	From  []string `json:"from"`
	Event string   `json:"event"`
	To    string   `json:"to"`
}

func (a *app) statesCommand() *cobra.Command {
	var dot bool
	c := &cobra.Command{
		Use: "states", Short: "Print the table of a runtime's statuses", Args: noArgs,
		Example: "  openhands-rt states\n  openhands-rt states --dot | dot -Tsvg > states.svg",
		RunE: func(*cobra.Command, []string) error {
			if dot {
				_, err := fmt.Fprint(a.env.Out, lifecycle.Dot())
				return err
			}
			return a.states()
		},
	}
	c.Flags().BoolVar(&dot, "dot", false, "as a Graphviz graph")
	return c
}

func (a *app) states() error {
	var list []stateRow
	var rows [][]string
	for _, t := range lifecycle.Table() {
		row := stateRow{Event: t.On.String(), To: t.To.String()}
		for _, from := range t.From {
			row.From = append(row.From, from.String())
		}
		list = append(list, row)
		rows = append(rows, []string{strings.Join(row.From, ", "), row.Event, row.To})
	}
	p := a.printer()
	return p.Value(list, func() error { return p.Table([]string{"FROM", "EVENT", "TO"}, rows) })
}
