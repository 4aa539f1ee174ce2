package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

// wire returns the error behind what a gRPC call returned, nil for nil.
func wire(err error) error { return rtgrpc.FromStatus(err) }

// request returns a Connect of a new sandbox with everything minted.
func (s *suite) request() *backendv1.ConnectRequest {
	spec := &backendv1.SandboxSpec{HeadlessMode: true}
	if s.target.Spec != nil {
		spec = proto.CloneOf(s.target.Spec)
	}
	return &backendv1.ConnectRequest{
		RuntimeId: mint("rt"), Sid: mint("sid"), IntentId: mint("intent"), Generation: 1, Spec: spec,
		AgentCredential: mint("agent"), SessionKey: mint("key"), Lease: durationpb.New(sandboxLease),
	}
}

// sandbox is a sandbox that a Connect made or found.
type sandbox struct {
	*peer
	req       *backendv1.ConnectRequest
	trace     *trace
	connected *backendv1.Connected
	handle    *backendv1.Handle
	log       func(msg string, args ...any)

	mu     sync.Mutex
	direct *client.Client // nil until it is wanted
}

// trace is everything that one Connect stream said, in its order.
type trace struct {
	events []*backendv1.ConnectResponse
	came   []time.Duration // of each event, since the stream was opened
	err    error
}

// length is the time from the opening of the stream to its last event.
func (t *trace) length() time.Duration {
	if len(t.came) == 0 {
		return 0
	}
	return t.came[len(t.came)-1]
}

func (t *trace) statuses() []backendv1.RuntimeStatus {
	var all []backendv1.RuntimeStatus
	for _, e := range t.events {
		if st := e.GetStatus(); st != nil {
			all = append(all, st.GetStatus())
		}
	}
	return all
}

func (t *trace) connected() []*backendv1.Connected {
	var all []*backendv1.Connected
	for _, e := range t.events {
		if done := e.GetConnected(); done != nil {
			all = append(all, done)
		}
	}
	return all
}

// maxConnectEvents bounds what is kept of one Connect stream.
const maxConnectEvents = 10_000

// follow reads a Connect stream to its end.
func follow(ctx context.Context, p *peer, req *backendv1.ConnectRequest) *trace {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return readConnect(p.Connect(ctx, req))
}

func readConnect(stream grpc.ServerStreamingClient[backendv1.ConnectResponse], err error) *trace {
	t, opened := &trace{err: wire(err)}, time.Now()
	for t.err == nil && len(t.events) < maxConnectEvents {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return t
		}
		if err != nil {
			t.err = wire(err)
			return t
		}
		t.events, t.came = append(t.events, event), append(t.came, time.Since(opened))
	}
	if t.err == nil {
		t.err = rterr.New(rterr.LimitExceeded, "connect", "more than %d events", maxConnectEvents)
	}
	return t
}

func (s *suite) connect(ctx context.Context, p *peer, req *backendv1.ConnectRequest) (*sandbox, error) {
	return s.sandboxOf(p, req, follow(ctx, p, req))
}

// sandboxOf returns the sandbox that a stream ended with.
func (s *suite) sandboxOf(p *peer, req *backendv1.ConnectRequest, t *trace) (*sandbox, error) {
	if t.err != nil {
		return nil, t.err
	}
	done := t.connected()
	if len(done) == 0 || done[0].GetHandle() == nil {
		return nil, fmt.Errorf("the stream ended without a Connected that has a handle, after %d events", len(t.events))
	}
	return &sandbox{peer: p, req: req, trace: t, connected: done[0], handle: done[0].GetHandle(), log: s.log.Warn}, nil
}

// attachRequest asks for this very sandbox again.
func (sb *sandbox) attachRequest() *backendv1.ConnectRequest {
	req := proto.CloneOf(sb.req)
	req.Handle = sb.handle
	return req
}

func (sb *sandbox) id() string         { return sb.handle.GetSandboxId() }
func (sb *sandbox) credential() string { return sb.req.GetAgentCredential() }

// end closes the sandbox in a mode.
func (sb *sandbox) end(ctx context.Context, mode backendv1.CloseMode) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := sb.Close(ctx, &backendv1.CloseRequest{Handle: sb.handle, Mode: mode, AgentCredential: sb.credential()})
	return wire(err)
}

func (sb *sandbox) delete(ctx context.Context) error {
	return sb.end(ctx, backendv1.CloseMode_CLOSE_MODE_DELETE)
}

// discard ends the sandbox when nobody judges how.
func (sb *sandbox) discard(ctx context.Context) {
	if err := sb.delete(ctx); err != nil {
		sb.log("close sandbox", "sandbox", sb.id(), "error", err)
	}
	sb.hangUp()
	sb.shutDown(ctx)
}

// shutDown ends an agent that still answers after its sandbox's Close: clauses judge such a plugin, and its sandboxes are the
// suite's to end all the same.
func (sb *sandbox) shutDown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	e, err := sb.endpoint(ctx, 0)
	if err != nil || e.GetPluginOnly() {
		return // the regular case: it is gone, or out of reach
	}
	direct, err := dialAgent(e, sb.credential())
	if err != nil {
		return
	}
	defer direct.Close()
	if _, err := direct.Shutdown(ctx, &agentv1.ShutdownRequest{}); err == nil {
		sb.log("shut down an agent that its Close left", "sandbox", sb.id())
	}
}

// discardIntent ends what a creation has made of which there is no handle.
func (sb *sandbox) discardIntent(ctx context.Context) {
	left, err := sb.intents(ctx)
	if err != nil {
		sb.log("list what a creation left", "intent", sb.req.GetIntentId(), "error", err)
	}
	for _, l := range left {
		sb.adopt(l.GetHandle())
		sb.discard(ctx)
	}
}

// listAll reads every page of a List.
func listAll(ctx context.Context, p *peer, req *backendv1.ListRequest) ([]*backendv1.ListedSandbox, error) {
	req = proto.CloneOf(req)
	var all []*backendv1.ListedSandbox
	for range maxPages {
		page, err := p.List(ctx, req)
		if err != nil {
			return nil, wire(err)
		}
		all = append(all, page.GetSandboxes()...)
		if page.GetNextPageToken() == "" {
			return all, nil
		}
		req.PageToken = page.GetNextPageToken()
	}
	return nil, fmt.Errorf("List did not end after %d pages", maxPages)
}

// maxPages bounds a List whose pages never end.
const maxPages = 1000

// intents lists the sandboxes of one creation.
func (sb *sandbox) intents(ctx context.Context) ([]*backendv1.ListedSandbox, error) {
	return listAll(ctx, sb.peer, &backendv1.ListRequest{IntentId: sb.req.GetIntentId()})
}

// lease edits a request to have a lease of its own.
func lease(d time.Duration) func(*backendv1.ConnectRequest) {
	return func(r *backendv1.ConnectRequest) { r.Lease = durationpb.New(d) }
}
