// Package bare runs actions in a devbox without an agent: the rules of agent.v1 over the API's own executions. An action's record is
// a folder on the devbox's disk, made before anything runs, and its output is what the API keeps of the execution.
//
// The service of this plugin alone imports it. It knows process actions without stdin and terminal.
package bare

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Box is a devbox as its actions see it.
type Box struct {
	API *client.Client
	// ID of the devbox, and Home and Workspace in it.
	ID, Home, Workspace string
	// Created is when it was made: a part of the ids of its executions.
	Created time.Time
}

// key is the execution of an action: a UUIDv7 that follows from the devbox and the action's id, so that everybody who asks for the
// action names the same execution.
func (b *Box) key(id string) uuid.UUID {
	sum := sha256.Sum256([]byte(b.ID + "\x00" + id))
	var u uuid.UUID
	copy(u[:], sum[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(b.Created.UnixMilli())) //nolint:gosec // a time after 1970
	copy(u[:6], ms[2:])
	u[6], u[8] = u[6]&0x0f|0x70, u[8]&0x3f|0x80
	return u
}

// maxInline is the largest script that goes into a command; a larger one is written into a file first, for an argument of a
// program has at most 128 KiB.
const maxInline = 64 << 10

// begin has an action begun, or finds that it was before. The caller lets one at a time through for each action.
func (b *Box) begin(ctx context.Context, a *agentv1.Action) (key string, err error) {
	p, err := decode(a)
	if err != nil {
		return "", err
	}
	id := b.key(a.GetId())
	if _, err := b.API.Execution(ctx, b.ID, id.String()); err == nil || !client.Missing(err) {
		return id.String(), err
	}
	timeout := a.GetTimeout().AsDuration()
	script := wrapper(id.String(), head{digest: a.GetDigest(), summary: action.Summary(a), timeout: timeout}, p, b.Workspace, timeout)
	if len(script) > maxInline {
		file := b.Home + "/.openhands-rt/run/script-" + id.String()
		if err := b.API.WriteFile(ctx, b.ID, file, script); err != nil {
			return "", err
		}
		script = ". " + quote(file) + "; rm -f " + quote(file)
	}
	_, err = b.API.Execute(ctx, b.ID, id, script, noHold)
	return id.String(), err
}

// noHold: the answer is wanted as soon as the command has been taken.
const noHold = time.Second

func decode(a *agentv1.Action) (*action.Process, error) {
	if a.GetKind() != action.KindProcess {
		return nil, action.UnknownKind(a.GetKind(), Kinds())
	}
	p, err := action.DecodeProcess(a.GetPayload())
	switch {
	case err != nil:
		return nil, err
	case p.TTY != nil:
		return nil, rterr.Invalid("", "action.payload.tty", "a devbox without an agent has no terminals")
	case p.Stdin:
		return nil, rterr.Invalid("", "action.payload.stdin", "a devbox without an agent takes no input")
	}
	return p, nil
}

// Kinds of action that it runs.
func Kinds() []string { return []string{action.KindProcess} }

// known returns the head of an action that was begun, though its execution is gone: what cut it is over.
func (b *Box) known(ctx context.Context, id string) (head, bool, error) {
	out, err := b.API.Run(ctx, b.ID, knownScript(b.key(id).String()))
	if err != nil || out.Exit == exitUnknown {
		return head{}, false, err
	}
	h, _ := decodeHead(strings.TrimPrefix(strings.TrimSpace(out.Stdout), "D "))
	return h, true, nil
}

// The exit statuses of signalScript and knownScript.
const (
	exitUnknown = 44
	exitDone    = 45
)

// Interrupt signals an action's process group.
func (b *Box) Interrupt(ctx context.Context, id string, level agentv1.InterruptLevel) (bool, error) {
	signal := map[agentv1.InterruptLevel]string{
		agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE: "TERM", agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL: "KILL",
	}[level]
	out, err := b.API.Run(ctx, b.ID, signalScript(b.key(id).String(), orElse(signal, "INT")))
	switch {
	case err != nil:
		return false, err
	case out.Exit == exitUnknown:
		return false, unknown(id)
	case out.Exit == exitDone:
		return false, nil
	case out.Exit != 0:
		return false, rterr.New(rterr.Provider, "interrupt action", "exit status %d: %s", out.Exit, strings.TrimSpace(out.Stderr))
	}
	return true, nil
}

func unknown(id string) *rterr.Error {
	return rterr.New(rterr.NotFound, "", "no action %q is known", id).WithRan(rterr.RanNo)
}

func record(id string, h head) *agentv1.ActionRecord {
	r := &agentv1.ActionRecord{
		Id: id, Kind: action.KindProcess, Digest: h.digest, Summary: h.summary, State: agentv1.ActionState_ACTION_STATE_RUNNING,
	}
	if h.timeout > 0 {
		r.Timeout = durationpb.New(h.timeout)
	}
	return r
}
