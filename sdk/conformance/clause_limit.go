package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

func limitClauses() []clause {
	return []clause{
		{name: "limit/memory", run: limitMemory,
			needs: []need{needProcess(), capability("limit_memory", (*backendv1.Capabilities).GetLimitMemory)},
			rule:  "A command that needs more memory than the sandbox's limit fails, and the sandbox stays."},
		{name: "limit/pids", run: limitPids,
			needs: []need{needProcess(), capability("limit_pids", (*backendv1.Capabilities).GetLimitPids)},
			rule:  "A sandbox has no more processes than its limit, and stays."},
		{name: "limit/cpu", run: limitCPU,
			needs: []need{needProcess(), capability("limit_cpu", (*backendv1.Capabilities).GetLimitCpu)},
			rule:  "A busy command gets no more processor time than the sandbox's limit."},
	}
}

// limited makes a sandbox with limits.
func (c *check) limited(ctx context.Context, limits *backendv1.Limits) (*sandbox, error) {
	return c.connect(ctx, func(r *backendv1.ConnectRequest) { r.Spec.Limits = limits })
}

func limitMemory(ctx context.Context, c *check) error {
	sb, err := c.limited(ctx, &backendv1.Limits{MemoryBytes: 128 << 20})
	if err != nil {
		return err
	}
	c.step("hold 400 MB in one process")
	// tail has to keep a line that never ends.
	r, err := run(ctx, pluginRoute{}, sb, shell("head -c 400000000 /dev/zero | tail -n 1 | wc -c"))
	if err != nil {
		return err
	}
	if string(r.output[stdout]) == "400000000\n" {
		return fmt.Errorf("a process held 400 MB in a sandbox of 128 MiB: %s", told(r.last))
	}
	return c.stillThere(ctx, sb)
}

func limitPids(ctx context.Context, c *check) error {
	sb, err := c.limited(ctx, &backendv1.Limits{Pids: 32})
	if err != nil {
		return err
	}
	c.step("start 100 processes")
	r, err := run(ctx, pluginRoute{}, sb, shell(
		`i=0; while [ $i -lt 100 ]; do sleep 30 & i=$((i+1)); done; echo all; kill $(jobs -p) 2>/dev/null; exit 0`))
	if err != nil {
		return err
	}
	if string(r.output[stdout]) == "all\n" && len(r.output[stderr]) == 0 {
		return fmt.Errorf("100 processes ran in a sandbox of 32: %s", told(r.last))
	}
	return nil
}

// busyFor spins for two to three seconds by the clock and prints real, user and system time.
const busyFor = `TIMEFORMAT='%R %U %S'; time { end=$((SECONDS+3)); while [ $SECONDS -lt $end ]; do :; done; }`

func limitCPU(ctx context.Context, c *check) error {
	sb, err := c.limited(ctx, &backendv1.Limits{CpuMillis: 200})
	if err != nil {
		return err
	}
	c.step("spin")
	r, err := run(ctx, pluginRoute{}, sb, process("bash", "-c", busyFor))
	if err != nil {
		return err
	}
	var elapsed, user, system float64
	if _, err := fmt.Sscanf(string(r.output[stderr]), "%f %f %f", &elapsed, &user, &system); err != nil {
		return fmt.Errorf("%w: %s, %s", err, quote(r.output[stderr]), told(r.last))
	}
	// Half of a processor leaves room for bursts; without a limit it is the whole of one.
	if share := (user + system) / elapsed; share > 0.5 {
		return fmt.Errorf("a busy command got %.2f processors in a sandbox of 0.2", share)
	}
	return nil
}

// wantHere checks a file on this machine.
func wantHere(dir, file, want string) error {
	got, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("want %q in %s, got %q", want, file, got)
	}
	return nil
}
