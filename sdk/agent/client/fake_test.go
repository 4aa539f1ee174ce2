package client_test

import (
	"context"
	"os/exec"
	"sync"
	"syscall"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// fakeEngine keeps one channel of output per action in memory. A test writes to it with emit and ends it with finish.
type fakeEngine struct {
	mu      sync.Mutex
	changed chan struct{}
	actions map[string]*fakeAction
	closed  bool
	// instant: actions are done at once, with the output "ok".
	instant bool
	began   chan string
}

type fakeAction struct {
	record *agentv1.ActionRecord
	out    []byte
	input  []byte
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{changed: make(chan struct{}), actions: map[string]*fakeAction{}, began: make(chan string, 64)}
}

func (e *fakeEngine) bump() { close(e.changed); e.changed = make(chan struct{}) }

func (e *fakeEngine) emit(id, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.actions[id].out = append(e.actions[id].out, text...)
	e.bump()
}

func (e *fakeEngine) finish(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done(e.actions[id])
	e.bump()
}

func (e *fakeEngine) done(a *fakeAction) {
	a.record.State = agentv1.ActionState_ACTION_STATE_DONE
	a.record.Observation = &agentv1.Observation{ActionId: a.record.Id, Outcome: agentv1.Outcome_OUTCOME_COMPLETED, Payload: []byte("{}")}
}

func (e *fakeEngine) Kinds() []string { return []string{"process", "run"} }

func (e *fakeEngine) Execute(ctx context.Context, req *agentv1.ExecuteRequest, send func(*agentv1.ActionEvent) error) error {
	id := req.GetAction().GetId()
	if req.GetAction().GetKind() == "panic" {
		panic("as asked")
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return rterr.New(rterr.Unavailable, "execute", "closed").WithRan(rterr.RanNo)
	}
	a := e.actions[id]
	if a == nil {
		a = &fakeAction{record: &agentv1.ActionRecord{Id: id, Kind: req.GetAction().GetKind(), State: agentv1.ActionState_ACTION_STATE_RUNNING}}
		if e.instant {
			a.out = []byte("ok")
			e.done(a)
		} else {
			e.actions[id] = a
			select {
			case e.began <- id:
			default:
			}
		}
	}
	e.mu.Unlock()
	return e.follow(ctx, a, req.GetFrom(), send)
}

func (e *fakeEngine) Attach(ctx context.Context, req *agentv1.AttachRequest, send func(*agentv1.ActionEvent) error) error {
	e.mu.Lock()
	a := e.actions[req.GetActionId()]
	e.mu.Unlock()
	if a == nil {
		return rterr.New(rterr.NotFound, "attach", "no such action").WithRan(rterr.RanNo)
	}
	return e.follow(ctx, a, req.GetFrom(), send)
}

func (e *fakeEngine) follow(ctx context.Context, a *fakeAction, from []*agentv1.OutputCursor, send func(*agentv1.ActionEvent) error) error {
	e.mu.Lock()
	record := &agentv1.ActionRecord{Id: a.record.Id, Kind: a.record.Kind, State: a.record.State}
	e.mu.Unlock()
	if err := send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: record}}); err != nil {
		return err
	}
	var offset int
	for _, c := range from {
		offset = int(c.GetOffset())
	}
	for {
		e.mu.Lock()
		piece, observation, closed, changed := a.out[offset:], a.record.Observation, e.closed, e.changed
		e.mu.Unlock()
		if len(piece) > 0 {
			ev := &agentv1.Output{Channel: agentv1.Channel_CHANNEL_STDOUT, Offset: uint64(offset), Data: piece}
			if err := send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Output{Output: ev}}); err != nil {
				return err
			}
			offset += len(piece)
			continue
		}
		if observation != nil {
			return send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{Observation: observation}})
		}
		if closed {
			return rterr.New(rterr.Unavailable, "follow", "the agent ends")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *fakeEngine) Interrupt(_ context.Context, id string, _ agentv1.InterruptLevel) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.actions[id]
	if a == nil {
		return false, rterr.New(rterr.NotFound, "interrupt", "no such action")
	}
	if a.record.Observation != nil {
		return false, nil
	}
	e.done(a)
	e.bump()
	return true, nil
}

func (e *fakeEngine) Input(_ context.Context, req *agentv1.InputRequest) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.actions[req.GetActionId()]
	if a == nil {
		return 0, rterr.New(rterr.NotFound, "input", "no such action")
	}
	a.input = append(a.input, req.GetData()...)
	return uint64(len(a.input)), nil
}

func (e *fakeEngine) Resize(req *agentv1.ResizeRequest) error {
	_, err := e.Get(req.GetActionId())
	return err
}

func (e *fakeEngine) Get(id string) (*agentv1.ActionRecord, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.actions[id]; a != nil {
		return a.record, nil
	}
	return nil, rterr.New(rterr.NotFound, "get action", "no such action").WithRan(rterr.RanNo)
}

func (e *fakeEngine) List(active bool, limit int) []*agentv1.ActionRecord {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*agentv1.ActionRecord
	for _, a := range e.actions {
		if len(all) < limit && !(active && a.record.Observation != nil) {
			all = append(all, a.record)
		}
	}
	return all
}

func (e *fakeEngine) Active() int { return len(e.List(true, 1000)) }

func (e *fakeEngine) Close(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.bump()
	return nil
}

// fakeTree counts what is asked of it. It holds no process but those a test names.
type fakeTree struct {
	mu     sync.Mutex
	kills  int
	frozen bool
	pids   []int
	fail   error
}

var _ sandbox.Tree = (*fakeTree)(nil)

func (t *fakeTree) Kind() string                                                  { return "walk" }
func (t *fakeTree) Start(cmd *exec.Cmd, _ string) error                           { return cmd.Start() }
func (t *fakeTree) Mark() sandbox.Mark                                            { return sandbox.Mark{} }
func (t *fakeTree) Signal(string, syscall.Signal) (int, error)                    { return 0, nil }
func (t *fakeTree) SignalSince(sandbox.Mark, syscall.Signal, ...int) (int, error) { return 0, nil }
func (t *fakeTree) Forget(string) error                                           { return nil }
func (t *fakeTree) Freeze() error                                                 { return t.set(true) }
func (t *fakeTree) Thaw() error                                                   { return t.set(false) }
func (t *fakeTree) Close() error                                                  { return nil }

func (t *fakeTree) set(frozen bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail != nil {
		return t.fail
	}
	t.frozen = frozen
	return nil
}

func (t *fakeTree) Kill() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kills++
	if t.kills == 1 {
		return 3, nil
	}
	return 0, nil
}

func (t *fakeTree) Pids() ([]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pids, nil
}
