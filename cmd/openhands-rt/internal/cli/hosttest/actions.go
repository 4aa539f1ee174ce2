package hosttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"connectrpc.com/connect"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1/runtimev1connect"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rthttp"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtwire"
)

// act is an action: a process and all that it has written.
type act struct {
	id, runtime, kind, summary, digest string
	cmd                                *exec.Cmd
	terminal                           *os.File
	sizing                             sync.Mutex // of the terminal
	done                               chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	out     map[agentv1.Channel][]byte
	obs     *agentv1.Observation
	levels  []agentv1.InterruptLevel

	inMu   sync.Mutex
	stdin  io.WriteCloser
	offset uint64
}

func (a *act) change(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *act) destroy() {
	if a.cmd != nil && a.cmd.Process != nil {
		_ = syscall.Kill(-a.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-a.done
}

// Levels returns the interrupts that an action has got, waiting until there are n of them.
func (h *Host) Levels(ctx context.Context, id string, n int) []agentv1.InterruptLevel {
	h.mu.Lock()
	a := h.actions[id]
	h.mu.Unlock()
	for {
		a.mu.Lock()
		levels, changed := a.levels, a.changed
		a.mu.Unlock()
		if len(levels) >= n {
			return levels
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return levels
		}
	}
}

// Offset is the number of bytes of input that an action has taken.
func (h *Host) Offset(id string) uint64 {
	h.mu.Lock()
	a := h.actions[id]
	h.mu.Unlock()
	a.inMu.Lock()
	defer a.inMu.Unlock()
	return a.offset
}

type actions struct {
	runtimev1connect.UnimplementedActionServiceHandler
	h *Host
}

// begin starts an action, or finds it.
func (s actions) begin(runtimeID string, req *agentv1.Action) (*act, error) {
	b, err := s.h.find(runtimeID, "")
	if err != nil {
		return nil, err
	}
	if err := action.Normalize(req); err != nil {
		return nil, rthttp.ToConnect(err)
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if a := s.h.actions[req.GetId()]; a != nil {
		if a.digest != req.GetDigest() {
			return nil, rthttp.ToConnect(rterr.New(rterr.ActionConflict, "", "the id belongs to another action").WithRan(rterr.RanNo))
		}
		return a, nil
	}
	p, err := process(req)
	if err != nil {
		return nil, rthttp.ToConnect(err)
	}
	a := &act{id: req.GetId(), runtime: runtimeID, kind: req.GetKind(), summary: p.Argv[0], digest: req.GetDigest(), done: make(chan struct{}),
		changed: make(chan struct{}), out: map[agentv1.Channel][]byte{}}
	s.h.actions[a.id] = a
	s.h.started++
	a.start(p, b.dir)
	return a, nil
}

// process reads the two kinds; a run is a shell of its own on a terminal here.
func process(req *agentv1.Action) (*action.Process, error) {
	if req.GetKind() == action.KindRun {
		r, err := action.DecodeRun(req.GetPayload())
		if err != nil {
			return nil, err
		}
		return &action.Process{Argv: []string{"bash", "-c", r.Command}, TTY: &action.TTY{}}, nil
	}
	return action.DecodeProcess(req.GetPayload())
}

func (a *act) start(p *action.Process, dir string) {
	a.cmd = exec.Command(p.Argv[0], p.Argv[1:]...)
	a.cmd.Dir = dir
	if p.Cwd != "" {
		a.cmd.Dir = filepath.Join(dir, p.Cwd)
	}
	a.cmd.Env = os.Environ()
	for k, v := range p.Env {
		a.cmd.Env = append(a.cmd.Env, k+"="+v)
	}
	if err := a.launch(p); err != nil {
		reason := rterr.Internal
		if errors.Is(err, exec.ErrNotFound) {
			reason = rterr.NotFound
		}
		a.obs = &agentv1.Observation{ActionId: a.id, Outcome: agentv1.Outcome_OUTCOME_FAILED,
			Error: rtwire.ToDetail(rterr.New(reason, "start "+p.Argv[0], "%v", err).WithField("action.payload.argv").WithRan(rterr.RanNo))}
		close(a.done)
	}
}

func (a *act) launch(p *action.Process) error {
	if p.TTY != nil {
		f, err := pty.StartWithSize(a.cmd, &pty.Winsize{Rows: max(p.TTY.Rows, 1), Cols: max(p.TTY.Cols, 1)})
		if err != nil {
			return err
		}
		a.terminal, a.stdin = f, f
		go a.wait(map[agentv1.Channel]io.Reader{agentv1.Channel_CHANNEL_PTY: f})
		return nil
	}
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if p.Stdin {
		if a.stdin, err = a.cmd.StdinPipe(); err != nil {
			return err
		}
	}
	if err := a.cmd.Start(); err != nil {
		return err
	}
	go a.wait(map[agentv1.Channel]io.Reader{agentv1.Channel_CHANNEL_STDOUT: stdout, agentv1.Channel_CHANNEL_STDERR: stderr})
	return nil
}

// wait reads the channels to their ends and makes the observation.
func (a *act) wait(channels map[agentv1.Channel]io.Reader) {
	defer close(a.done)
	var readers sync.WaitGroup
	for c, r := range channels {
		readers.Go(func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := r.Read(buf)
				a.change(func() { a.out[c] = append(a.out[c], buf[:n]...) })
				if err != nil {
					return
				}
			}
		})
	}
	readers.Wait()
	_ = a.cmd.Wait()
	state := a.cmd.ProcessState.Sys().(syscall.WaitStatus)
	o := action.ProcessObservation{Observation: "process", Pid: a.cmd.ProcessState.Pid()}
	obs := &agentv1.Observation{ActionId: a.id, Outcome: agentv1.Outcome_OUTCOME_COMPLETED}
	if state.Signaled() {
		o.Signal = unix.SignalName(state.Signal())
	} else {
		code := int32(state.ExitStatus())
		obs.ExitCode = &code
	}
	obs.Payload, _ = json.Marshal(o)
	a.change(func() {
		if len(a.levels) > 0 {
			obs.Outcome = agentv1.Outcome_OUTCOME_INTERRUPTED
		}
		for _, c := range slices.Sorted(maps.Keys(channels)) {
			obs.Channels = append(obs.Channels, &agentv1.ChannelEnd{Channel: c, Length: uint64(len(a.out[c]))})
		}
		a.obs = obs
	})
	if a.terminal != nil {
		a.sizing.Lock()
		_ = a.terminal.Close()
		a.sizing.Unlock()
	}
}

func (a *act) record() *agentv1.ActionRecord {
	r := &agentv1.ActionRecord{Id: a.id, Kind: a.kind, Summary: a.summary, State: agentv1.ActionState_ACTION_STATE_RUNNING,
		CreatedAt: timestamppb.New(Created()), StartedAt: timestamppb.New(Created()), Pid: 4711}
	if a.obs != nil {
		r.State, r.Observation, r.FinishedAt = agentv1.ActionState_ACTION_STATE_DONE, a.obs, timestamppb.New(Created())
	}
	return r
}

// stream sends an action's events from the wanted offsets on.
func (a *act) stream(ctx context.Context, from []*agentv1.OutputCursor, send func(*agentv1.ActionEvent) error) error {
	next := map[agentv1.Channel]uint64{}
	for _, f := range from {
		next[f.GetChannel()] = f.GetOffset()
	}
	a.mu.Lock()
	record := a.record()
	a.mu.Unlock()
	if err := send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Record{Record: record}}); err != nil {
		return err
	}
	for {
		a.mu.Lock()
		obs, changed := a.obs, a.changed
		var pieces []*agentv1.Output
		for c, b := range a.out {
			for ; next[c] < uint64(len(b)) && len(pieces) < 16; next[c] += uint64(len(pieces[len(pieces)-1].GetData())) {
				end := min(uint64(len(b)), next[c]+64<<10)
				pieces = append(pieces, &agentv1.Output{Channel: c, Offset: next[c], Data: bytes.Clone(b[next[c]:end])})
			}
		}
		a.mu.Unlock()
		for _, p := range pieces {
			if err := send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Output{Output: p}}); err != nil {
				return err
			}
		}
		switch {
		case len(pieces) > 0:
			continue
		case obs != nil:
			return send(&agentv1.ActionEvent{Event: &agentv1.ActionEvent_Observation{Observation: obs}})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s actions) get(id string) (*act, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if a := s.h.actions[id]; a != nil {
		return a, nil
	}
	return nil, rthttp.ToConnect(rterr.New(rterr.NotFound, "", "no action %s", id).WithRan(rterr.RanNo))
}

func (s actions) ExecuteAction(ctx context.Context, req *connect.Request[runtimev1.ExecuteActionRequest], stream *connect.ServerStream[agentv1.ActionEvent]) error {
	a, err := s.begin(req.Msg.GetRuntimeId(), req.Msg.GetAction())
	if err != nil {
		return err
	}
	return a.stream(ctx, req.Msg.GetFrom(), stream.Send)
}

func (s actions) StartAction(_ context.Context, req *connect.Request[runtimev1.StartActionRequest]) (*connect.Response[runtimev1.StartActionResponse], error) {
	a, err := s.begin(req.Msg.GetRuntimeId(), req.Msg.GetAction())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&runtimev1.StartActionResponse{Action: s.info(a)}), nil
}

func (s actions) AttachAction(ctx context.Context, req *connect.Request[runtimev1.AttachActionRequest], stream *connect.ServerStream[agentv1.ActionEvent]) error {
	a, err := s.get(req.Msg.GetActionId())
	if err != nil {
		return err
	}
	return a.stream(ctx, req.Msg.GetFrom(), stream.Send)
}

func (s actions) RunAction(ctx context.Context, req *connect.Request[runtimev1.RunActionRequest]) (*connect.Response[runtimev1.RunActionResponse], error) {
	a, err := s.begin(req.Msg.GetRuntimeId(), req.Msg.GetAction())
	if err != nil {
		return nil, err
	}
	resp := &runtimev1.RunActionResponse{}
	err = a.stream(ctx, nil, func(ev *agentv1.ActionEvent) error {
		if out := ev.GetOutput(); out != nil {
			resp.Output = append(resp.Output, &runtimev1.ChannelOutput{Channel: out.GetChannel(), Head: out.GetData()})
		}
		resp.Observation = ev.GetObservation()
		return nil
	})
	return connect.NewResponse(resp), err
}

func (s actions) info(a *act) *runtimev1.ActionInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &runtimev1.ActionInfo{RuntimeId: a.runtime, Generation: 1, Record: a.record()}
}

func (s actions) GetAction(_ context.Context, req *connect.Request[runtimev1.GetActionRequest]) (*connect.Response[runtimev1.GetActionResponse], error) {
	a, err := s.get(req.Msg.GetActionId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&runtimev1.GetActionResponse{Action: s.info(a)}), nil
}

func (s actions) ListActions(context.Context, *connect.Request[runtimev1.ListActionsRequest]) (*connect.Response[runtimev1.ListActionsResponse], error) {
	s.h.mu.Lock()
	list := make([]*act, 0, len(s.h.actions))
	for _, a := range s.h.actions {
		list = append(list, a)
	}
	s.h.mu.Unlock()
	slices.SortFunc(list, func(a, b *act) int { return strings.Compare(a.id, b.id) })
	resp := &runtimev1.ListActionsResponse{}
	for _, a := range list {
		resp.Actions = append(resp.Actions, s.info(a))
	}
	return connect.NewResponse(resp), nil
}

func (s actions) InterruptAction(_ context.Context, req *connect.Request[runtimev1.InterruptActionRequest]) (*connect.Response[runtimev1.InterruptActionResponse], error) {
	a, err := s.get(req.Msg.GetActionId())
	if err != nil {
		return nil, err
	}
	signals := map[agentv1.InterruptLevel]syscall.Signal{
		agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT: syscall.SIGINT,
		agentv1.InterruptLevel_INTERRUPT_LEVEL_TERMINATE: syscall.SIGTERM,
		agentv1.InterruptLevel_INTERRUPT_LEVEL_KILL:      syscall.SIGKILL,
	}
	signalled := false
	a.change(func() {
		if a.obs == nil {
			a.levels = append(a.levels, req.Msg.GetLevel())
			signalled = syscall.Kill(-a.cmd.Process.Pid, signals[req.Msg.GetLevel()]) == nil
		}
	})
	return connect.NewResponse(&runtimev1.InterruptActionResponse{Signalled: signalled}), nil
}

func (s actions) SendInput(_ context.Context, req *connect.Request[runtimev1.SendInputRequest]) (*connect.Response[runtimev1.SendInputResponse], error) {
	a, err := s.get(req.Msg.GetActionId())
	if err != nil {
		return nil, err
	}
	a.inMu.Lock()
	defer a.inMu.Unlock()
	data, offset := req.Msg.GetData(), req.Msg.GetOffset()
	switch {
	case a.stdin == nil:
		return nil, rthttp.ToConnect(rterr.New(rterr.IllegalState, "", "the action takes no input"))
	case offset > a.offset:
		return nil, rthttp.ToConnect(rterr.Invalid("", "offset", "%d is beyond %d", offset, a.offset))
	case offset+uint64(len(data)) < a.offset:
		data = nil
	default:
		data = data[a.offset-offset:]
	}
	whole := len(data)
	if s.h.Nibble && len(data) > 3 {
		data = data[:len(data)*2/3]
	}
	n, err := a.stdin.Write(data)
	a.offset += uint64(n)
	if err != nil {
		return nil, rthttp.ToConnect(rterr.New(rterr.IllegalState, "", "the command has closed its input"))
	}
	if req.Msg.GetClose() && n == whole && a.terminal == nil {
		_ = a.stdin.Close()
	}
	return connect.NewResponse(&runtimev1.SendInputResponse{NextOffset: a.offset}), nil
}

func (s actions) ResizeTerminal(_ context.Context, req *connect.Request[runtimev1.ResizeTerminalRequest]) (*connect.Response[runtimev1.ResizeTerminalResponse], error) {
	a, err := s.get(req.Msg.GetActionId())
	if err != nil {
		return nil, err
	}
	if a.terminal == nil {
		return nil, rthttp.ToConnect(rterr.New(rterr.IllegalState, "", "no terminal"))
	}
	size := &pty.Winsize{Rows: uint16(req.Msg.GetRows()), Cols: uint16(req.Msg.GetCols())}
	a.sizing.Lock() // the descriptor must not be closed meanwhile
	defer a.sizing.Unlock()
	if err := pty.Setsize(a.terminal, size); err != nil {
		return nil, rthttp.ToConnect(err)
	}
	return connect.NewResponse(&runtimev1.ResizeTerminalResponse{}), nil
}
