package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func agentClauses() []clause {
	needs := []need{needEndpoint(), needProcess()}
	return []clause{
		{name: "agent/info", needs: []need{needEndpoint()}, run: agentInfo,
			rule: "The agent at the endpoint has the sandbox's id, the runtime's id and generation, a nonce, and the kinds that are claimed."},
		{name: "agent/one-record", needs: needs, run: agentOneRecord,
			rule: "Both action paths are one: an action that ran through the plugin is known to the agent, and the other way round."},
		{name: "agent/stdin", needs: needs, run: agentStdin,
			rule: "Input feeds a process's stdin byte-exact up to its end; a piece that was taken is skipped, one beyond the end is refused."},
		{name: "agent/tty", needs: append([]need{capability("interactive", (*backendv1.Capabilities).GetInteractive)}, needs...), run: agentTTY,
			rule: "A process with a tty has a terminal of the size that it asked for, and its output is the PTY channel."},
	}
}

func agentInfo(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("endpoint")
	a, err := sb.agent(ctx)
	if err != nil {
		return err
	}
	c.step("info")
	info, err := info(ctx, a)
	if err != nil {
		return err
	}
	switch {
	case info.GetSandboxId() != sb.id():
		return fmt.Errorf("the agent is that of sandbox %q, the handle's is %q", info.GetSandboxId(), sb.id())
	case info.GetRuntimeId() != sb.req.GetRuntimeId() || info.GetGeneration() != sb.req.GetGeneration():
		return fmt.Errorf("the agent is of runtime %q generation %d", info.GetRuntimeId(), info.GetGeneration())
	case info.GetNonce() == "" || info.GetStartedAt() == nil:
		return errors.New("nonce or started_at is missing: the sandbox could not be told from another one")
	}
	for _, kind := range c.s.expect.GetKinds() {
		if !strings.Contains(" "+strings.Join(info.GetKinds(), " ")+" ", " "+kind+" ") {
			return fmt.Errorf("kind %q is claimed, the agent has %q", kind, info.GetKinds())
		}
	}
	return nil
}

func agentOneRecord(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	for _, way := range []struct{ to, back route }{{pluginRoute{}, agentRoute{}}, {agentRoute{}, pluginRoute{}}} {
		a, file := counting()
		c.step("run through the %s", way.to.name())
		first, err := run(ctx, way.to, sb, a)
		if err != nil {
			return err
		}
		c.step("send it again through the %s", way.back.name())
		second, err := run(ctx, way.back, sb, a)
		if err != nil {
			return err
		}
		if err := wantOnce(ctx, c, sb, file); err != nil {
			return err
		}
		if err := sameAnswer(first, second); err != nil {
			return err
		}
	}
	return nil
}

func agentStdin(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	a, err := sb.agent(ctx)
	if err != nil {
		return err
	}
	act := processOf(action.Process{Argv: []string{"cat"}, Stdin: true}, 0)
	c.step("start cat")
	r, err := startOn(ctx, agentRoute{}, sb, order{action: act})
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.started(); err != nil {
		return err
	}
	if err := feed(ctx, c, a, act.GetId()); err != nil {
		return err
	}
	c.step("read what cat wrote")
	last, err := r.finish()
	if err != nil {
		return err
	}
	if got := string(r.output[stdout]); got != stdinText {
		return fmt.Errorf("want %q, got %q", stdinText, got)
	}
	return wantExit(last, 0)
}

// stdinText has what a text protocol would spoil.
const stdinText = "first\x00\xff\xfesecond\r\nthird"

// feed sends stdinText in two pieces, the first one twice, tries to leave a hole, and ends the input.
func feed(ctx context.Context, c *check, a *client.Client, id string) error {
	const half = 7
	pieces := []*agentv1.InputRequest{
		{ActionId: id, Offset: 0, Data: []byte(stdinText[:half])},
		{ActionId: id, Offset: 0, Data: []byte(stdinText[:half])},
		{ActionId: id, Offset: half, Data: []byte(stdinText[half:])},
	}
	for i, piece := range pieces {
		c.step("input, piece %d", i+1)
		answer, err := input(ctx, a, piece)
		if err != nil {
			return err
		}
		if want := piece.GetOffset() + uint64(len(piece.GetData())); answer.GetNextOffset() != want {
			return fmt.Errorf("next_offset is %d, want %d", answer.GetNextOffset(), want)
		}
	}
	c.step("input beyond the end")
	_, err := input(ctx, a, &agentv1.InputRequest{ActionId: id, Offset: uint64(len(stdinText)) + 1, Data: []byte("x")})
	if err := wantReason(err, rterr.InvalidArgument); err != nil {
		return err
	}
	c.step("end the input")
	_, err = input(ctx, a, &agentv1.InputRequest{ActionId: id, Offset: uint64(len(stdinText)), Close: true})
	return err
}

func agentTTY(ctx context.Context, c *check) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("ask a terminal for its size")
	r, err := run(ctx, agentRoute{}, sb, processOf(action.Process{
		Argv: []string{"sh", "-c", "test -t 0 && test -t 1 && stty size"}, TTY: &action.TTY{Rows: 31, Cols: 97}}, 0))
	if err != nil {
		return err
	}
	if err := wantExit(r.last, 0); err != nil {
		return err
	}
	if got := strings.TrimSpace(string(r.output[pty])); got != "31 97" {
		return fmt.Errorf("want the size 31 97 in the PTY channel, got %q", got)
	}
	return nil
}
