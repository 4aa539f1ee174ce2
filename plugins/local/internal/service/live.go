package service

import (
	"context"
	"sync"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// live is one running sandbox, watched by a guard: when its agent dies, what it leaves is removed.
type live struct {
	id    string
	nonce string
	// gone is closed when nothing of the sandbox is left.
	gone chan struct{}

	mu sync.Mutex
	// changed is closed, and replaced, at each change of paused.
	changed chan struct{}
	paused  bool
	// client is the connection of the credential that was used last.
	client     *client.Client
	credential string
}

// state returns whether the sandbox is paused, and a channel that is closed when that changes.
func (l *live) state() (paused bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused, l.changed
}

func (l *live) setPaused(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused == paused {
		return
	}
	l.paused = paused
	close(l.changed)
	l.changed = make(chan struct{})
}

// agent returns a client of the agent; it is closed with the sandbox.
func (l *live) agent(socket, credential string) (*client.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil && l.credential == credential {
		return l.client, nil
	}
	c, err := client.New(client.Config{Address: "unix://" + socket, Credential: credential})
	if err != nil {
		return nil, err
	}
	if l.client != nil {
		_ = l.client.Close() // Only connections that nobody uses.
	}
	l.client, l.credential = c, credential
	return c, nil
}

// drop closes the connections.
func (l *live) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		_ = l.client.Close() // Only connections that nobody uses.
		l.client = nil
	}
}

// alive reports whether the very process of the record runs.
func alive(m folder.Meta) bool {
	boot, err := sandbox.BootID()
	return err == nil && m.PID > 0 && m.BootID == boot && sandbox.Alive(m.PID, m.StartTime)
}

// dead reports whether it is certain that the agent of a record has ended. A record without a process is of a sandbox that is
// being made, or whose making was cut: of that only another boot is certain.
func dead(m folder.Meta) bool {
	boot, err := sandbox.BootID()
	if err != nil {
		return false
	}
	return m.BootID != boot || (m.PID > 0 && !sandbox.Alive(m.PID, m.StartTime))
}

// look returns the live sandbox of a record, and starts its guard if it has none. SandboxGone if its agent is dead; the guard
// then removes what it left.
func (s *Service) look(set *settings, m folder.Meta) (*live, error) {
	switch {
	case dead(m):
		return s.watch(set, m), rterr.New(rterr.SandboxGone, "", "the agent of %s has ended", m.SandboxID)
	case m.PID == 0:
		return nil, rterr.New(rterr.SandboxUnreachable, "", "%s is still being made", m.SandboxID)
	default:
		return s.watch(set, m), nil
	}
}

// watch returns the live sandbox of a record, with a guard.
func (s *Service) watch(set *settings, m folder.Meta) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.live[m.SandboxID]; l != nil && l.nonce == m.Nonce {
		return l
	}
	l := &live{id: m.SandboxID, nonce: m.Nonce, paused: m.Paused, gone: make(chan struct{}), changed: make(chan struct{})}
	s.live[m.SandboxID] = l
	s.guards.Go(func() { s.guard(set, l, m) })
	return l
}

// guard waits for the agent's end and removes what is left.
func (s *Service) guard(set *settings, l *live, m folder.Meta) {
	if !dead(m) {
		if err := sandbox.WaitProcess(s.ctx, m.PID, m.StartTime); err != nil {
			if s.ctx.Err() == nil {
				s.log.Error("cannot watch a sandbox", "runtime", m.RuntimeID, "sid", m.SID, "error", err)
			}
			return
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, cleanWait)
	defer cancel()
	// Unavailable: another plugin, which is on its way in or out, removes it already.
	if err := s.reap(ctx, set, m); err != nil && s.ctx.Err() == nil && !rterr.Is(err, rterr.Unavailable) {
		s.log.Error("cannot remove a dead sandbox", "runtime", m.RuntimeID, "sid", m.SID, "error", err)
	}
	s.mu.Lock()
	if s.live[l.id] == l {
		delete(s.live, l.id)
	}
	s.mu.Unlock()
	l.drop()
	close(l.gone)
}

// reap removes what a dead agent left. Nothing happens if the record has changed meanwhile, or is gone.
func (s *Service) reap(ctx context.Context, set *settings, m folder.Meta) error {
	leave, err := s.turns.take(ctx, m.SandboxID)
	if err != nil {
		return err
	}
	defer leave()
	lock, err := set.root.Lock(m.SandboxID, false)
	if rterr.Is(err, rterr.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	now, err := set.root.Read(m.SandboxID)
	if rterr.Is(err, rterr.NotFound) || (err == nil && now.Nonce != m.Nonce) {
		return nil
	}
	return s.destroy(ctx, set, m, nil)
}

// find returns the sandbox of a handle. SandboxGone if it no longer exists, Integrity if another one is in its place.
func (s *Service) find(op string, req handled) (*settings, folder.Meta, *live, error) {
	set, err := s.configured(op)
	if err != nil {
		return nil, folder.Meta{}, nil, err
	}
	h := req.GetHandle()
	o, err := decodeHandle(h)
	if err != nil {
		return nil, folder.Meta{}, nil, rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	m, err := set.root.Read(h.GetSandboxId())
	if rterr.Is(err, rterr.NotFound) {
		return set, m, nil, rterr.New(rterr.SandboxGone, op, "there is no sandbox %s", h.GetSandboxId())
	}
	if err != nil {
		return set, m, nil, rterr.Wrap(rterr.Internal, op, err)
	}
	if m.Nonce != o.Nonce {
		return set, m, nil, rterr.New(rterr.Integrity, op, "another sandbox is in the place of %s", h.GetSandboxId())
	}
	l, err := s.look(set, m)
	return set, m, l, rterr.Wrap(rterr.SandboxUnreachable, op, err)
}

// reach is find and a client of the agent.
func (s *Service) reach(op string, req credentialed) (*settings, folder.Meta, *live, *client.Client, error) {
	set, m, l, err := s.find(op, req)
	if err != nil {
		return nil, m, nil, nil, err
	}
	c, err := l.agent(m.Socket, req.GetAgentCredential())
	if err != nil {
		return nil, m, nil, nil, rterr.Wrap(rterr.InvalidArgument, op, err)
	}
	return set, m, l, c, nil
}
