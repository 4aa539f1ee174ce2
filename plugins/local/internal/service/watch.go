package service

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// WatchStatus tells the phase at once, at each change, and every 15 s. It ends with PHASE_GONE when the agent has ended.
func (s *Service) WatchStatus(req *backendv1.WatchStatusRequest, out grpc.ServerStreamingServer[backendv1.WatchStatusResponse]) error {
	const op = "watch sandbox"
	ctx := out.Context()
	_, _, l, err := s.find(op, req)
	if err != nil && !rterr.Is(err, rterr.SandboxGone) {
		return err
	}
	if l == nil {
		return sendPhase(out, backendv1.Phase_PHASE_GONE)
	}
	if err != nil {
		return s.lastPhase(ctx, l, out)
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		paused, changed := l.state()
		phase := backendv1.Phase_PHASE_RUNNING
		if paused {
			phase = backendv1.Phase_PHASE_PAUSED
		}
		if err := sendPhase(out, phase); err != nil {
			return err
		}
		select {
		case <-l.gone:
			return sendPhase(out, backendv1.Phase_PHASE_GONE)
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return rterr.Wrap(rterr.Cancelled, op, context.Cause(ctx))
		case <-s.ctx.Done():
			return rterr.New(rterr.Unavailable, op, "the plugin is stopping")
		}
	}
}

// lastPhase says that a dead sandbox is gone, once it is.
func (s *Service) lastPhase(ctx context.Context, l *live, out grpc.ServerStreamingServer[backendv1.WatchStatusResponse]) error {
	select {
	case <-l.gone:
		return sendPhase(out, backendv1.Phase_PHASE_GONE)
	case <-ctx.Done():
		return rterr.Wrap(rterr.Cancelled, "watch sandbox", context.Cause(ctx))
	case <-s.ctx.Done():
		return rterr.New(rterr.Unavailable, "watch sandbox", "the plugin is stopping")
	}
}

func sendPhase(out grpc.ServerStreamingServer[backendv1.WatchStatusResponse], phase backendv1.Phase) error {
	return out.Send(&backendv1.WatchStatusResponse{Phase: phase, At: timestamppb.Now()})
}

// logChunk is the largest piece of a log in one message, in bytes.
const logChunk = 64 << 10

// Logs sends what the agent of a sandbox wrote to its log so far.
func (s *Service) Logs(req *backendv1.LogsRequest, out grpc.ServerStreamingServer[backendv1.LogsResponse]) error {
	const op = "read agent log"
	set, m, _, err := s.find(op, req)
	if err != nil {
		return err
	}
	if req.GetFollow() {
		return rterr.New(rterr.Unsupported, op, "a local sandbox's log cannot be followed").WithRan(rterr.RanNo)
	}
	f, err := os.Open(set.root.Path(m.SandboxID, "agent.log"))
	if err != nil {
		return rterr.Wrap(rterr.Internal, op, err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, logChunk)
	buf := make([]byte, logChunk)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if err := out.Send(&backendv1.LogsResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return rterr.Wrap(rterr.Internal, op, err)
		}
	}
}
