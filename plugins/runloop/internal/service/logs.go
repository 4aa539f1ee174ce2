package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/api"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// logChunk is about the largest piece of a log in one message, in bytes.
const logChunk = 64 << 10

// Logs sends the devbox's log so far, or as it is written.
func (s *Service) Logs(req *backendv1.LogsRequest, out grpc.ServerStreamingServer[backendv1.LogsResponse]) error {
	const op = "read logs"
	ctx := out.Context()
	set, id, err := s.named(op, req)
	if err != nil {
		return err
	}
	if req.GetFollow() {
		return s.followLogs(ctx, set, id, out)
	}
	logs, err := set.api.Logs(ctx, id)
	if err != nil {
		return gone(op, id, err)
	}
	var text strings.Builder
	for i := range logs.Logs {
		text.WriteString(logLine(&logs.Logs[i]) + "\n")
		if text.Len() < logChunk && i+1 < len(logs.Logs) {
			continue
		}
		if err := out.Send(&backendv1.LogsResponse{Data: []byte(text.String())}); err != nil {
			return err
		}
		text.Reset()
	}
	return nil
}

func (s *Service) followLogs(ctx context.Context, set *settings, id string, out grpc.ServerStreamingServer[backendv1.LogsResponse]) error {
	const op = "follow logs"
	stream, err := set.api.TailLogs(ctx, id)
	if err != nil {
		return gone(op, id, err)
	}
	defer stream.Close()
	for {
		one, err := stream.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && client.Status(err) != 0:
			return gone(op, id, err)
		case err != nil:
			return rterr.Wrap(rterr.Network, op, err)
		}
		if err := out.Send(&backendv1.LogsResponse{Data: []byte(logLine(&one) + "\n")}); err != nil {
			return err
		}
	}
}

// logLine is a line of a devbox's log for people.
func logLine(l *api.DevboxLog) string {
	line := fmt.Sprintf("%s %-5s %s", time.UnixMilli(l.TimestampMs).UTC().Format(time.RFC3339), l.Level, l.Source)
	for _, text := range []*string{l.Cmd, l.Message} {
		if text != nil && *text != "" {
			line += ": " + strings.TrimRight(*text, "\n")
		}
	}
	if l.ExitCode != nil {
		line += fmt.Sprintf(" (exit %d)", *l.ExitCode)
	}
	return line
}
