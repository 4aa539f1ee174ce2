package conformance

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

// everyCall returns each method but Describe and Configure as a function that calls it for a handle and returns its error.
// Drain is not among them: it has an effect.
func everyCall(p *peer, h *backendv1.Handle, connect *backendv1.ConnectRequest) map[string]func(context.Context) error {
	calls := callsOfSandbox(p, h, connect.GetAgentCredential())
	calls["Connect"] = func(ctx context.Context) error {
		stream, err := p.Connect(ctx, connect)
		return drain(stream, err)
	}
	calls["List"] = func(ctx context.Context) error {
		_, err := p.List(ctx, &backendv1.ListRequest{})
		return wire(err)
	}
	calls["Diagnose"] = func(ctx context.Context) error {
		_, err := p.Diagnose(ctx, &backendv1.DiagnoseRequest{})
		return wire(err)
	}
	calls["Restore"] = func(ctx context.Context) error {
		stream, err := p.Restore(ctx, &backendv1.RestoreRequest{Connect: connect, SnapshotId: "none"})
		return drain(stream, err)
	}
	return calls
}

// callsOfSandbox returns the methods that are about one sandbox.
func callsOfSandbox(p *peer, h *backendv1.Handle, credential string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Execute": func(ctx context.Context) error {
			stream, err := p.Execute(ctx, &backendv1.ExecuteRequest{Handle: h, Action: process("true"), AgentCredential: credential})
			return drain(stream, err)
		},
		"Interrupt": unary(p.Interrupt, &backendv1.InterruptRequest{Handle: h, ActionId: "none",
			Level: levelKill, AgentCredential: credential}),
		"WatchStatus": func(ctx context.Context) error {
			stream, err := p.WatchStatus(ctx, &backendv1.WatchStatusRequest{Handle: h, AgentCredential: credential})
			return drain(stream, err)
		},
		"VSCodeURL": unary(p.VSCodeURL, &backendv1.VSCodeURLRequest{Handle: h, AgentCredential: credential}),
		"Endpoint":  unary(p.Endpoint, &backendv1.EndpointRequest{Handle: h}),
		"Pause":     unary(p.Pause, &backendv1.PauseRequest{Handle: h, AgentCredential: credential}),
		"Resume":    unary(p.Resume, &backendv1.ResumeRequest{Handle: h, AgentCredential: credential}),
		"Close":     unary(p.Close, &backendv1.CloseRequest{Handle: h, Mode: backendv1.CloseMode_CLOSE_MODE_DELETE, AgentCredential: credential}),
		"Renew":     unary(p.Renew, &backendv1.RenewRequest{Handle: h, Lease: durationpb.New(sandboxLease), AgentCredential: credential}),
		"Snapshot":  unary(p.Snapshot, &backendv1.SnapshotRequest{Handle: h, Name: "none"}),
		"Usage":     unary(p.Usage, &backendv1.UsageRequest{Handle: h}),
		"Logs": func(ctx context.Context) error {
			stream, err := p.Logs(ctx, &backendv1.LogsRequest{Handle: h})
			return drain(stream, err)
		},
	}
}

// optional reports whether a method may be left out.
func optional(name string) bool {
	switch name {
	case "VSCodeURL", "Pause", "Resume", "Snapshot", "Restore", "Usage", "Logs", "Diagnose":
		return true
	default:
		return false
	}
}

func unary[Q, A any](call func(context.Context, *Q, ...grpc.CallOption) (*A, error), req *Q) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		_, err := call(ctx, req)
		return wire(err)
	}
}

// drain reads a stream to its end and returns what ended it, nil for its regular end.
func drain[A any](stream grpc.ServerStreamingClient[A], err error) error {
	if err != nil {
		return wire(err)
	}
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return wire(err)
		}
	}
}

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
