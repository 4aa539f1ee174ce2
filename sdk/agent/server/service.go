package server

import (
	"context"
	"math"
	"os"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1/agentv1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent/ports"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// service is the face of a Server that Connect calls. Errors leave it as rterr; errorMapper puts them on the wire.
type service struct{ *Server }

var _ agentv1connect.AgentServiceHandler = (*service)(nil)

// reply puts an answer into Connect's envelope.
func reply[T any](msg *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(msg), nil
}

// checkNew refuses to begin an action while the sandbox is frozen or ending; known ones are answered all the same.
func (s *Server) checkNew(id string) error {
	frozen, ending := s.frozen.Load(), s.ending.Load()
	if !frozen && !ending {
		return nil
	}
	if id != "" {
		if _, err := s.cfg.Engine.Get(id); err == nil {
			return nil
		}
	}
	if ending {
		return stopping()
	}
	return rterr.New(rterr.SandboxPaused, "execute "+id, "the sandbox is frozen").WithRan(rterr.RanNo)
}

// Info implements agent.v1 Info.
func (s *service) Info(context.Context, *connect.Request[agentv1.InfoRequest]) (*connect.Response[agentv1.InfoResponse], error) {
	id := s.cfg.Identity
	hostname, _ := os.Hostname() // for people; empty says as much
	info := &agentv1.InfoResponse{
		Nonce: id.Nonce, StartedAt: timestamppb.New(id.StartedAt), Pid: int64(os.Getpid()), Version: id.Version,
		SandboxId: id.SandboxID, RuntimeId: id.RuntimeID, Generation: id.Generation, Kinds: s.cfg.Engine.Kinds(),
		Workspace: id.Workspace, Home: id.Home, Username: id.Username, Frozen: s.frozen.Load(),
		Running: uint32(min(max(s.cfg.Engine.Active(), 0), math.MaxUint32)), TreeControl: s.cfg.Tree.Kind(), Hostname: hostname,
	}
	if until := s.lease.deadline(); !until.IsZero() {
		info.LeaseUntil = timestamppb.New(until)
	}
	return reply(info, nil)
}

// Interrupt implements agent.v1 Interrupt.
func (s *service) Interrupt(ctx context.Context, req *connect.Request[agentv1.InterruptRequest]) (*connect.Response[agentv1.InterruptResponse], error) {
	level := req.Msg.GetLevel()
	if level == agentv1.InterruptLevel_INTERRUPT_LEVEL_UNSPECIFIED {
		level = agentv1.InterruptLevel_INTERRUPT_LEVEL_INTERRUPT
	}
	if _, known := agentv1.InterruptLevel_name[int32(level)]; !known {
		return nil, rterr.Invalid("interrupt "+req.Msg.GetActionId(), "level", "%d is not known", level)
	}
	signalled, err := s.cfg.Engine.Interrupt(ctx, req.Msg.GetActionId(), level)
	return reply(&agentv1.InterruptResponse{Signalled: signalled}, err)
}

// Input implements agent.v1 Input.
func (s *service) Input(ctx context.Context, req *connect.Request[agentv1.InputRequest]) (*connect.Response[agentv1.InputResponse], error) {
	if n := len(req.Msg.GetData()); n > maxInput {
		return nil, rterr.Invalid("input to "+req.Msg.GetActionId(), "data", "has %d bytes, at most %d are taken", n, maxInput)
	}
	next, err := s.cfg.Engine.Input(ctx, req.Msg)
	return reply(&agentv1.InputResponse{NextOffset: next}, err)
}

// Resize implements agent.v1 Resize.
func (s *service) Resize(_ context.Context, req *connect.Request[agentv1.ResizeRequest]) (*connect.Response[agentv1.ResizeResponse], error) {
	for field, n := range map[string]uint32{"rows": req.Msg.GetRows(), "cols": req.Msg.GetCols()} {
		if n == 0 || n > math.MaxUint16 {
			return nil, rterr.Invalid("resize "+req.Msg.GetActionId(), field, "must be 1 to %d", math.MaxUint16)
		}
	}
	return reply(&agentv1.ResizeResponse{}, s.cfg.Engine.Resize(req.Msg))
}

// GetAction implements agent.v1 GetAction.
func (s *service) GetAction(_ context.Context, req *connect.Request[agentv1.GetActionRequest]) (*connect.Response[agentv1.GetActionResponse], error) {
	record, err := s.cfg.Engine.Get(req.Msg.GetActionId())
	return reply(&agentv1.GetActionResponse{Record: record}, err)
}

// ListActions implements agent.v1 ListActions.
func (s *service) ListActions(_ context.Context, req *connect.Request[agentv1.ListActionsRequest]) (*connect.Response[agentv1.ListActionsResponse], error) {
	limit := int(min(req.Msg.GetLimit(), maxListed))
	if limit == 0 {
		limit = defaultListed
	}
	records := s.cfg.Engine.List(req.Msg.GetActive(), limit)
	out := make([]*agentv1.ActionRecord, len(records))
	for i, record := range records {
		out[i] = withoutPayload(record)
	}
	return reply(&agentv1.ListActionsResponse{Records: out}, nil)
}

// withoutPayload returns record, or a copy where there is a payload to leave out: the engine's own is not changed.
func withoutPayload(record *agentv1.ActionRecord) *agentv1.ActionRecord {
	if len(record.GetObservation().GetPayload()) == 0 {
		return record
	}
	record = proto.CloneOf(record)
	record.Observation.Payload = nil
	return record
}

// StatFile implements agent.v1 StatFile.
func (s *service) StatFile(_ context.Context, req *connect.Request[agentv1.StatFileRequest]) (*connect.Response[agentv1.StatFileResponse], error) {
	return reply(s.cfg.Files.StatFile(req.Msg))
}

// ListFiles implements agent.v1 ListFiles.
func (s *service) ListFiles(ctx context.Context, req *connect.Request[agentv1.ListFilesRequest]) (*connect.Response[agentv1.ListFilesResponse], error) {
	return reply(s.cfg.Files.ListFiles(ctx, req.Msg))
}

// MakeDir implements agent.v1 MakeDir.
func (s *service) MakeDir(_ context.Context, req *connect.Request[agentv1.MakeDirRequest]) (*connect.Response[agentv1.MakeDirResponse], error) {
	return reply(s.cfg.Files.MakeDir(req.Msg))
}

// RemoveFile implements agent.v1 RemoveFile.
func (s *service) RemoveFile(ctx context.Context, req *connect.Request[agentv1.RemoveFileRequest]) (*connect.Response[agentv1.RemoveFileResponse], error) {
	return reply(s.cfg.Files.RemoveFile(ctx, req.Msg))
}

// ListPorts implements agent.v1 ListPorts: the ports on which a process of the tree listens.
func (s *service) ListPorts(context.Context, *connect.Request[agentv1.ListPortsRequest]) (*connect.Response[agentv1.ListPortsResponse], error) {
	pids, err := s.cfg.Tree.Pids()
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "list ports", err)
	}
	found, err := ports.Listening("/proc", pids)
	return reply(&agentv1.ListPortsResponse{Ports: found}, err)
}

// RenewLease implements agent.v1 RenewLease.
func (s *service) RenewLease(_ context.Context, req *connect.Request[agentv1.RenewLeaseRequest]) (*connect.Response[agentv1.RenewLeaseResponse], error) {
	d := req.Msg.GetLease().AsDuration()
	if req.Msg.GetLease() == nil || d < 0 {
		return nil, rterr.Invalid("renew lease", "lease", "must be given, zero or more")
	}
	until, ok := s.lease.renew(d)
	if !ok {
		return nil, rterr.Wrap(rterr.Unavailable, "renew lease", stopping().With("lease_until", until.UTC().Format(time.RFC3339Nano)))
	}
	return reply(&agentv1.RenewLeaseResponse{LeaseUntil: timestamppb.New(until)}, nil)
}

// Freeze implements agent.v1 Freeze.
func (s *service) Freeze(context.Context, *connect.Request[agentv1.FreezeRequest]) (*connect.Response[agentv1.FreezeResponse], error) {
	return reply(&agentv1.FreezeResponse{}, s.setFrozen(true))
}

// Thaw implements agent.v1 Thaw.
func (s *service) Thaw(context.Context, *connect.Request[agentv1.ThawRequest]) (*connect.Response[agentv1.ThawResponse], error) {
	return reply(&agentv1.ThawResponse{}, s.setFrozen(false))
}

// setFrozen tells the tree even if it should be in that state already: what is asked for is a fact about processes, not a flag.
func (s *service) setFrozen(frozen bool) error {
	s.freezing.Lock()
	defer s.freezing.Unlock()
	if s.ending.Load() {
		return stopping()
	}
	if !frozen {
		if err := s.cfg.Tree.Thaw(); err != nil {
			return rterr.Wrap(rterr.Internal, "thaw", err)
		}
		s.frozen.Store(false)
		return nil
	}
	s.frozen.Store(true) // first, so that nothing is begun in a tree that is about to stand still
	if err := s.cfg.Tree.Freeze(); err != nil {
		thawErr := s.cfg.Tree.Thaw()
		s.frozen.Store(thawErr != nil)
		return rterr.Wrap(rterr.Internal, "freeze", err)
	}
	return nil
}

// Shutdown implements agent.v1 Shutdown.
func (s *service) Shutdown(context.Context, *connect.Request[agentv1.ShutdownRequest]) (*connect.Response[agentv1.ShutdownResponse], error) {
	killed, err := s.end()
	s.once.Do(func() { close(s.shutdown) })
	if err != nil {
		return nil, rterr.From(rterr.Wrap(rterr.Internal, "shut down", err)).With("killed", strconv.Itoa(killed))
	}
	return reply(&agentv1.ShutdownResponse{Killed: uint32(max(killed, 0))}, nil)
}
