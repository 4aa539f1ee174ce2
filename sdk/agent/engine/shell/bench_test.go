package shell

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

type waiter chan Report

func (waiter) Output([]byte)           {}
func (w waiter) Idle(r Report)         { w <- r }
func (waiter) Exited(*os.ProcessState) {}

// BenchmarkTurn is a turn of the shell alone: a command handed over, its report.
func BenchmarkTurn(b *testing.B) {
	tree, err := sandbox.NewTree(sandbox.TreeConfig{Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	w := make(waiter, 1)
	s, err := Start(Config{Tree: tree, Bash: []string{"bash"}, Env: os.Environ(), Dir: b.TempDir(), Rows: 24, Cols: 80}, w)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	<-w
	var all []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := s.Run("n", ":", true); err != nil {
			b.Fatal(err)
		}
		<-w
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
}
