package service

import (
	"context"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Close ends a sandbox, or lets go of it. One that is gone, or in whose place another one is, is a success.
func (s *Service) Close(ctx context.Context, req *backendv1.CloseRequest) (*backendv1.CloseResponse, error) {
	const op = "close sandbox"
	set, err := s.configured(op)
	if err != nil {
		return nil, err
	}
	o, err := decodeHandle(req.GetHandle())
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	switch req.GetMode() {
	case backendv1.CloseMode_CLOSE_MODE_KEEP:
		return &backendv1.CloseResponse{}, nil
	case backendv1.CloseMode_CLOSE_MODE_DELETE:
	default:
		return nil, rterr.Invalid(op, "mode", "is required")
	}
	id := req.GetHandle().GetSandboxId()
	if err := s.remove(ctx, set, id, o.Nonce, req.GetAgentCredential()); err != nil {
		return nil, rterr.Wrap(rterr.Internal, op, err)
	}
	return &backendv1.CloseResponse{}, s.left(ctx, id, o.Nonce)
}

// remove destroys the sandbox that has the nonce, if it is there.
func (s *Service) remove(ctx context.Context, set *settings, id, nonce, credential string) error {
	leave, err := s.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	lock, err := set.root.Lock(id, false)
	if rterr.Is(err, rterr.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := set.root.Read(id)
	if rterr.Is(err, rterr.NotFound) || (err == nil && m.Nonce != nonce) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.destroy(ctx, set, m, s.closer(m, credential))
}

// closer returns a client for the last request to an agent, nil if none can be had.
func (s *Service) closer(m folder.Meta, credential string) *client.Client {
	if !m.Ready || credential == "" {
		return nil
	}
	c, err := client.New(client.Config{Address: "unix://" + m.Socket, Credential: credential})
	if err != nil {
		return nil // It is killed without a word.
	}
	return c
}

// left waits until the guard of a removed sandbox has seen its end, so that no watch outlives the answer.
func (s *Service) left(ctx context.Context, id, nonce string) error {
	s.mu.Lock()
	l := s.live[id]
	s.mu.Unlock()
	if l == nil || l.nonce != nonce {
		return nil
	}
	select {
	case <-l.gone:
		return nil
	case <-ctx.Done():
		return rterr.Wrap(rterr.Timeout, "close sandbox", context.Cause(ctx))
	}
}
