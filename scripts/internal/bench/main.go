// Command bench measures openhands-rt beside the raw limits of the machine, all in one run, and prints ratios: what a figure
// means on a shared machine is only its relation to its neighbours.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

func main() {
	rounds := flag.Int("n", 1000, "rounds of each small measurement")
	size := flag.Int64("size", 1<<30, "bytes of the file for cp")
	bin := flag.String("bin", "", "folder of the binaries (scripts/build makes them)")
	small := flag.Bool("latency", false, "only the latencies: no large output, copies, memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *rounds, *size, *small); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures everything and prints the table.
func run(ctx context.Context, bin string, rounds int, size int64, small bool) error {
	dir, err := os.MkdirTemp("", "ohrt-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	b := &bench{ctx: ctx, dir: dir, bin: bin, rounds: rounds, size: size, small: small, at: map[string]samples{}}
	for _, part := range []func() error{b.baselines, b.engine, b.daemon, b.plugin, b.runloop} {
		if err := part(); err != nil {
			return err
		}
	}
	return b.print(os.Stdout)
}

// bench is one run.
type bench struct {
	ctx    context.Context
	dir    string
	bin    string
	rounds int
	size   int64
	small  bool
	at     map[string]samples
	// memory in bytes, throughput in bytes per second, by name.
	memory     []figure
	throughput []figure
}

type figure struct {
	name   string
	value  float64
	beside string
	other  float64
}

// samples are durations, sorted.
type samples []time.Duration

func (s samples) at(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	return s[min(int(float64(len(s))*q), len(s)-1)]
}

// measure runs fn a few times to warm up, then rounds times, and keeps the durations under name.
func (b *bench) measure(name string, rounds int, fn func() error) error {
	for range min(rounds/10+1, 50) {
		if err := fn(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	out := make(samples, 0, rounds)
	for range rounds {
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		began := time.Now()
		if err := fn(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, time.Since(began))
	}
	slices.Sort(out)
	b.at[name] = out
	return nil
}
