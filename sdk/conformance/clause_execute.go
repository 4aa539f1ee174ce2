package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func executeClauses() []routed {
	only := []need{needProcess()}
	return []routed{
		{name: "execute/bytes", needs: only, run: executeBytes,
			rule: "A process action's stdout and stderr come apart and byte-exact, NUL and invalid UTF-8 included."},
		{name: "execute/exit-code", needs: only, run: executeExit,
			rule: "The observation has the exit code of the command, and none if a signal ended it."},
		{name: "execute/event-order", needs: only, run: executeOrder,
			rule: "A stream is one record, then output whose offsets join without hole or overlap in pieces of at most 64 KiB, then exactly one observation, last."},
		{name: "execute/large-output", needs: only, run: executeLarge,
			rule: "Eight MiB of output arrive whole, and the observation has the channels' lengths."},
		{name: "execute/cwd-env", needs: only, run: executeCwdEnv,
			rule: "A process action runs in the directory and with the variables that it asks for, in the workspace if it asks for none."},
		{name: "execute/output-none", needs: only, run: executeNone,
			rule: "With OUTPUT_MODE_NONE a stream is the record and the observation alone."},
		{name: "execute/resume-output", needs: only, run: executeResume,
			rule: "Attaching by id goes on with the output at the wanted offsets, while the action runs and after it."},
		{name: "execute/cut-stream", needs: only, run: executeCut,
			rule: "Ending a stream does not end its action."},
		{name: "execute/unknown-id", needs: only, run: executeUnknownID,
			rule: "Attaching to an unknown id fails with NOT_FOUND and says that nothing ran."},
		{name: "execute/unknown-kind", run: executeUnknownKind,
			rule: "An unknown kind of action is refused with UNKNOWN_KIND, by name, and says that nothing ran."},
		{name: "execute/bad-payload", needs: only, run: executeBadPayload,
			rule: "A payload that is wrong is refused with INVALID_ARGUMENT, and the field is named."},
		{name: "execute/bad-id", needs: only, run: executeBadID,
			rule: "An action id that the contract does not allow is refused with INVALID_ARGUMENT."},
		{name: "execute/no-program", needs: only, run: executeNoProgram,
			rule: "A program or directory that is not there makes an OUTCOME_FAILED observation with an error, and no exit code."},
		{name: "execute/timeout", needs: only, run: executeTimeout,
			rule: "An action that runs into its timeout ends with OUTCOME_TIMED_OUT and keeps the output so far."},
		{name: "execute/credential", needs: only, run: executeCredential,
			rule: "A wrong agent credential is refused with UNAUTHENTICATED."},
	}
}

// everyByte writes all 256 byte values to stdout, and in reverse to stderr.
const everyByte = `i=0; while [ $i -lt 256 ]; do printf "\\$(printf %03o $i)"; printf "\\$(printf %03o $((255-i)))" >&2; i=$((i+1)); done`

func executeBytes(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("write every byte value")
	r, err := run(ctx, via, sb, shell(everyByte))
	if err != nil {
		return err
	}
	up, down := make([]byte, 256), make([]byte, 256)
	for i := range 256 {
		up[i], down[i] = byte(i), byte(255-i)
	}
	if !bytes.Equal(r.output[stdout], up) {
		return fmt.Errorf("stdout is not the bytes 0 to 255: %s", quote(r.output[stdout]))
	}
	if !bytes.Equal(r.output[stderr], down) {
		return fmt.Errorf("stderr is not the bytes 255 to 0: %s", quote(r.output[stderr]))
	}
	return wantExit(r.last, 0)
}

func executeExit(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("exit 3")
	r, err := run(ctx, via, sb, shell("exit 3"))
	if err != nil {
		return err
	}
	if err := wantExit(r.last, 3); err != nil {
		return err
	}
	c.step("kill -KILL $$")
	if r, err = run(ctx, via, sb, shell("kill -KILL $$")); err != nil {
		return err
	}
	if r.last.GetOutcome() != agentv1.Outcome_OUTCOME_COMPLETED || r.last.ExitCode != nil {
		return fmt.Errorf("want OUTCOME_COMPLETED without an exit code, got %s", told(r.last))
	}
	return nil
}

func executeOrder(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("write to both channels in turn")
	a := shell(`i=0; while [ $i -lt 100 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; head -c 300000 /dev/zero`)
	r, err := run(ctx, via, sb, a)
	if err != nil {
		return err
	}
	switch {
	case r.broken != "":
		return errors.New(r.broken)
	case r.record.GetId() != a.GetId() || r.record.GetKind() != a.GetKind():
		return fmt.Errorf("the record is of %s %s, asked was %s %s", r.record.GetKind(), r.record.GetId(), a.GetKind(), a.GetId())
	case r.last.GetActionId() != a.GetId():
		return fmt.Errorf("the observation is of %q, asked was %q", r.last.GetActionId(), a.GetId())
	case len(r.gaps) > 0:
		return fmt.Errorf("a gap of %d bytes in an output of 300 kB", r.gaps[0].GetLength())
	}
	return nil
}

// large is the size of the large output, in bytes.
const large = 8 << 20

func executeLarge(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	const line = "0123456789abcdef0123456789abcde\n"
	c.step("write %d bytes", large)
	r, err := run(ctx, via, sb, shell(fmt.Sprintf("yes %s | head -c %d", strings.TrimSpace(line), large)))
	if err != nil {
		return err
	}
	want := sha256.Sum256(bytes.Repeat([]byte(line), large/len(line)))
	if got := sha256.Sum256(r.output[stdout]); got != want {
		return fmt.Errorf("%d bytes arrived, %d gaps; want %d bytes of sha-256 %x, got %x",
			len(r.output[stdout]), len(r.gaps), large, want, got)
	}
	for _, end := range r.last.GetChannels() {
		if end.GetChannel() == stdout && end.GetLength() == large {
			return nil
		}
	}
	return fmt.Errorf("the observation does not say that stdout has %d bytes: %v", large, r.last.GetChannels())
}

func executeCwdEnv(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("in a directory, with a variable")
	out, err := ok(ctx, via, sb, processOf(action.Process{
		Argv: []string{"sh", "-c", `pwd; echo "$CONFORMANCE"`}, Cwd: "/", Env: map[string]string{"CONFORMANCE": "a b"}}, 0))
	if err != nil {
		return err
	}
	if out != "/\na b\n" {
		return fmt.Errorf("want %q, got %q", "/\na b\n", out)
	}
	c.step("without a directory")
	if out, err = ok(ctx, via, sb, process("pwd")); err != nil {
		return err
	}
	if want := sb.connected.GetWorkspace() + "\n"; out != want {
		return fmt.Errorf("want the workspace %q, got %q", want, out)
	}
	return nil
}

func executeNone(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("run without output")
	r, err := runOrder(ctx, via, sb, order{action: shell("echo out; echo err >&2"), mode: agentv1.OutputMode_OUTPUT_MODE_NONE})
	if err != nil {
		return err
	}
	if r.pieces > 0 || r.record == nil {
		return fmt.Errorf("want a record and no output, got record %v and %d pieces", r.record != nil, r.pieces)
	}
	c.step("the output is kept all the same")
	r, err = runOrder(ctx, via, sb, order{action: &agentv1.Action{Id: r.record.GetId()}, attach: true})
	if err != nil {
		return err
	}
	if got := string(r.output[stdout]); got != "out\n" {
		return fmt.Errorf("want %q, got %q", "out\n", got)
	}
	return nil
}

// gated writes some lines, waits for a file, and writes the rest: the suite decides when it goes on.
func gated(from, pause, to int) (*agentv1.Action, string) {
	gate := mint("gate")
	script := `i=$1; while [ $i -le $3 ]; do echo line $i; if [ $i = $2 ]; then while [ ! -e "$4" ]; do sleep 0.05; done; fi; i=$((i+1)); done; rm -f "$4"`
	return shell(script, fmt.Sprint(from), fmt.Sprint(pause), fmt.Sprint(to), gate), gate
}

// lines is what gated writes.
func lines(from, to int) string {
	var b strings.Builder
	for i := from; i <= to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// pass opens the gate.
func pass(ctx context.Context, via route, sb *sandbox, gate string) error {
	_, err := ok(ctx, via, sb, process("touch", gate))
	return err
}

func executeResume(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	a, gate := gated(1, 50, 100)
	c.step("read the first half, then cut the stream")
	first, err := readUntil(ctx, via, sb, a, "line 50\n")
	if err != nil {
		return err
	}
	half := uint64(len(lines(1, 50)))
	c.step("attach from offset %d while it runs", half)
	second, err := startOn(ctx, via, sb, order{action: &agentv1.Action{Id: a.GetId()}, attach: true, from: at(half)})
	if err != nil {
		return err
	}
	defer second.close()
	if err := pass(ctx, via, sb, gate); err != nil {
		return err
	}
	if _, err := second.finish(); err != nil {
		return err
	}
	if got := string(first.output[stdout][:half]) + string(second.output[stdout]); got != lines(1, 100) || second.broken != "" {
		return fmt.Errorf("the two parts do not make the whole: %s; %s", quote([]byte(got)), second.broken)
	}
	c.step("attach from offset %d after its end", half)
	third, err := runOrder(ctx, via, sb, order{action: a, from: at(half)})
	if err != nil {
		return err
	}
	if got := string(third.output[stdout]); got != lines(51, 100) || third.broken != "" {
		return fmt.Errorf("want lines 51 to 100, got %s; %s", quote([]byte(got)), third.broken)
	}
	return wantExit(third.last, 0)
}

func at(offset uint64) []*agentv1.OutputCursor {
	return []*agentv1.OutputCursor{{Channel: stdout, Offset: offset}}
}

// readUntil starts an action, reads until a text came, and cuts the stream.
func readUntil(ctx context.Context, via route, sb *sandbox, a *agentv1.Action, text string) (*running, error) {
	r, err := startOn(ctx, via, sb, order{action: a})
	if err != nil {
		return nil, err
	}
	defer r.close()
	return r, r.until(stdout, text)
}

func executeCut(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	a, gate := gated(1, 1, 3)
	c.step("read one line, then cut the stream")
	if _, err := readUntil(ctx, via, sb, a, "line 1\n"); err != nil {
		return err
	}
	c.step("let it go on, and attach")
	if err := pass(ctx, via, sb, gate); err != nil {
		return err
	}
	r, err := runOrder(ctx, via, sb, order{action: &agentv1.Action{Id: a.GetId()}, attach: true})
	if err != nil {
		return err
	}
	if got := string(r.output[stdout]); got != lines(1, 3) {
		return fmt.Errorf("want three lines, got %q", got)
	}
	return wantExit(r.last, 0)
}

func executeUnknownID(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("attach to an id that was never used")
	_, err = runOrder(ctx, via, sb, order{action: &agentv1.Action{Id: action.NewID()}, attach: true})
	if err := wantReason(err, rterr.NotFound); err != nil {
		return err
	}
	return wantRan(err, rterr.RanNo)
}

func wantRan(err error, want rterr.Ran) error {
	if got := rterr.From(err).Ran; got != want {
		return fmt.Errorf("want ran = %s, got %s: %s", want, got, err.Error())
	}
	return nil
}

func executeUnknownKind(ctx context.Context, c *check, via route) error {
	const kind = "conformance_no_such_kind"
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("run an action of kind %s", kind)
	why, err := refusal(ctx, via, sb, rawAction(kind, "{}", 0))
	if err != nil {
		return err
	}
	if err := wantReason(why, rterr.UnknownKind); err != nil {
		return err
	}
	if !strings.Contains(why.Error(), kind) {
		return fmt.Errorf("the kind is not named: %s", why.Error())
	}
	return wantRan(why, rterr.RanNo)
}

func executeBadPayload(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	for _, bad := range []struct{ payload, field string }{
		{`{}`, "action.payload.argv"},
		{`{"argv": []}`, "action.payload.argv"},
		{`{"argv": ["true"], "conformance": 1}`, "action.payload"},
		{`{"argv": "true"}`, "action.payload"},
		{`not json`, "action.payload"},
	} {
		c.step("payload %s", bad.payload)
		why, err := refusal(ctx, via, sb, rawAction(action.KindProcess, bad.payload, 0))
		if err != nil {
			return err
		}
		if err := errors.Join(wantReason(why, rterr.InvalidArgument), wantField(why, bad.field)); err != nil {
			return err
		}
	}
	return nil
}

func executeBadID(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	for _, id := range []string{".hidden", "a b", "a/b", strings.Repeat("a", 129)} {
		c.step("action id %q", id)
		a := process("true")
		a.Id = id
		why, err := refusal(ctx, via, sb, a)
		if err != nil {
			return err
		}
		if err := errors.Join(wantReason(why, rterr.InvalidArgument), wantField(why, "action.id")); err != nil {
			return err
		}
	}
	return nil
}

func executeNoProgram(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	for what, p := range map[string]action.Process{
		"program":   {Argv: []string{"conformance-no-such-program"}},
		"directory": {Argv: []string{"true"}, Cwd: "/conformance-no-such-directory"},
	} {
		c.step("no such %s", what)
		r, err := run(ctx, via, sb, processOf(p, 0))
		if err != nil {
			return err
		}
		if r.last.GetOutcome() != agentv1.Outcome_OUTCOME_FAILED || r.last.GetError() == nil || r.last.ExitCode != nil {
			return fmt.Errorf("want OUTCOME_FAILED with an error and no exit code, got %s", told(r.last))
		}
		if err := wantRan(fromDetail(r.last.GetError()), rterr.RanNo); err != nil {
			return err
		}
	}
	return nil
}

func executeTimeout(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("run into a timeout of %v", shortTimeout)
	r, err := run(ctx, via, sb, processOf(action.Process{Argv: []string{"sh", "-c", "echo partial; exec sleep 1000"}}, shortTimeout))
	if err != nil {
		return err
	}
	if r.last.GetOutcome() != agentv1.Outcome_OUTCOME_TIMED_OUT {
		return fmt.Errorf("want OUTCOME_TIMED_OUT, got %s", told(r.last))
	}
	if got := string(r.output[stdout]); got != "partial\n" {
		return fmt.Errorf("want the output so far, %q, got %q", "partial\n", got)
	}
	return nil
}

func executeCredential(ctx context.Context, c *check, via route) error {
	sb, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.step("run an action with a wrong credential")
	stranger := sb.withCredential(mint("wrong"))
	defer stranger.hangUp()
	_, err = run(ctx, via, stranger, process("true"))
	return wantReason(err, rterr.Unauthenticated)
}
