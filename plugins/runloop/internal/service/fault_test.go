package service

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

// passing are faults that a client who tries again gets over.
func passing() emulator.Faults {
	return emulator.Faults{
		{Kind: emulator.FaultRate, Probability: 0.05, Delay: 10 * time.Millisecond},
		{Kind: emulator.FaultError, Probability: 0.05},
		{Kind: emulator.FaultDropBefore, Probability: 0.04},
		{Kind: emulator.FaultDropAfter, Probability: 0.04},
		{Kind: emulator.FaultLatency, Probability: 0.1, Delay: 10 * time.Millisecond},
		{Kind: emulator.FaultSlowBoot, Probability: 0.1, Delay: 100 * time.Millisecond},
		{Kind: emulator.FaultTunnelCut, Probability: 0.05},
	}
}

func TestTwoHundredConnectsUnderFaults(t *testing.T) {
	for name, noReplay := range map[string]bool{"replay of request ids": false, "no replay of request ids": true} {
		t.Run(name, func(t *testing.T) {
			connects := 200
			if testing.Short() {
				connects = 20
			}
			r := newRig(t, emulator.Config{Seed: 20260820, Faults: passing(), NoReplay: noReplay}, map[string]any{
				"retry": map[string]any{"max": 10, "delay": "5ms", "max_delay": "100ms"},
			})
			group := new(errgroup.Group)
			group.SetLimit(8)
			var mu sync.Mutex
			ids := map[string]bool{}
			for i := range connects {
				group.Go(func() error {
					got := r.connect(ask(fmt.Sprintf("%d", i)))
					if got.err != nil {
						return fmt.Errorf("connect %d, after %v: %w", i, got.steps, got.err)
					}
					id := got.connected.GetHandle().GetSandboxId()
					mu.Lock()
					ids[id] = true
					mu.Unlock()
					_, err := r.Close(t.Context(), &backendv1.CloseRequest{Handle: got.connected.GetHandle(), Mode: closeDelete})
					return rtgrpc.FromStatus(err)
				})
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
			stats := r.emu.Stats()
			t.Log(stats)
			if len(ids) != connects || stats.Created != connects || stats.Alive != 0 {
				t.Errorf("%d connects have %d devboxes: %s", connects, len(ids), stats)
			}
			if stats.Faults == 0 || (stats.Replayed > 0) == noReplay {
				t.Errorf("the test is not what it says: %s", stats)
			}
		})
	}
}

func TestTerminalFaultsAreNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault  emulator.Fault
		step   string
		reason rterr.Reason
		says   string
	}{
		{emulator.Fault{Kind: emulator.FaultQuota}, stepDevbox, rterr.QuotaExceeded, "quota"},
		{emulator.Fault{Kind: emulator.FaultFailedBoot}, stepBoot, rterr.Provider, "health_check_failed"},
		{emulator.Fault{Kind: emulator.FaultExpiredKey, Path: "/execute"}, stepAgent, rterr.Unauthenticated, "expired"},
		{emulator.Fault{Kind: emulator.FaultExpiredKey, Path: "/v1/devboxes", Method: "GET"}, stepFind, rterr.Unauthenticated, "expired"},
		{emulator.Fault{Kind: emulator.FaultError, Path: "upload_file"}, stepAgent, rterr.Unavailable, "unavailable"},
		{emulator.Fault{Kind: emulator.FaultError, Path: "wait_for_status"}, stepBoot, rterr.Unavailable, "unavailable"},
		{emulator.Fault{Kind: emulator.FaultError, Path: "enable_tunnel"}, stepTunnel, rterr.Unavailable, "unavailable"},
		{emulator.Fault{Kind: emulator.FaultRate, Path: "enable_tunnel"}, stepTunnel, rterr.RateLimited, "limit"},
		{emulator.Fault{Kind: emulator.FaultDropBefore, Path: "write_file"}, stepAgent, rterr.Network, "EOF"},
		{emulator.Fault{Kind: emulator.FaultTunnelCut}, stepReady, rterr.Timeout, "does not answer"},
	} {
		t.Run(c.fault.Kind+c.fault.Path, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, emulator.Config{Faults: emulator.Faults{c.fault}}, map[string]any{
				"retry": map[string]any{"max": 2, "delay": "1ms", "max_delay": "5ms"},
			})
			r.s.waits.ready = time.Second
			for i := range 3 {
				e := r.failed(ask(fmt.Sprint(i)), c.step)
				if e.Reason != c.reason || !strings.Contains(fmt.Sprint(e, e.Evidence), c.says) {
					t.Errorf("want %s with %q, got %s: %v %v", c.reason, c.says, e.Reason, e, e.Evidence)
				}
			}
		})
	}
}

// A create whose answer never comes is found by its intent: it is not asked for again.
func TestAnswerOfCreateIsLost(t *testing.T) {
	for _, noReplay := range []bool{false, true} {
		r := newRig(t, emulator.Config{NoReplay: noReplay, Faults: emulator.Faults{
			{Kind: emulator.FaultDropAfter, Path: "/v1/devboxes", Method: "POST", Count: 1},
		}}, nil)
		c := r.must(ask("a"))
		if n := r.emu.Stats().Created; n != 1 {
			t.Errorf("%d devboxes were made", n)
		}
		r.close(c, closeDelete)
	}
}
