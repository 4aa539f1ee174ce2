package conformance

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/conformance/internal/launch"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

// suite is one run against one target. It owns the main plugin and the shared sandbox.
type suite struct {
	target Target
	log    hclog.Logger
	bare   bareErrors
	main   *peer
	// before, answer and claims are what the plugin said of itself: before Configure, in its answer, and afterwards.
	before *backendv1.DescribeResponse
	answer *backendv1.ConfigureResponse
	claims *backendv1.DescribeResponse
	// expect decides which clauses apply: the tester's table, or the claims.
	expect *backendv1.Capabilities

	mu     sync.Mutex
	common *sandbox   // for clauses that leave no trace in it; nil until it is wanted, or after one failed in it
	made   []*sandbox // every common sandbox, to be closed at the end
}

// peer is one connection to the backend.
type peer struct {
	backendv1.BackendServiceClient
	plugin   *launch.Plugin
	stateDir string
	// owner is this connection's own, so that what is left of it can be ended without harm to others.
	owner string
}

func open(ctx context.Context, target Target, log hclog.Logger) (*suite, error) {
	target, err := target.withDefaults()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = hclog.NewNullLogger()
	}
	s := &suite{target: target, log: log}
	if err := s.start(ctx); err != nil {
		s.close()
		return nil, rterr.Wrap(rterr.PluginUnavailable, "conformance", err)
	}
	return s, nil
}

func (s *suite) start(ctx context.Context) (err error) {
	if s.main, err = s.dial(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if s.before, err = s.main.Describe(ctx, &backendv1.DescribeRequest{}); err != nil {
		return rterr.Wrap(rterr.PluginUnavailable, "describe", rtgrpc.FromStatus(err))
	}
	if s.answer, err = s.configure(ctx, s.main, s.target.Config); err != nil {
		return rterr.Wrap(rterr.ConfigInvalid, "configure with the target's config", rtgrpc.FromStatus(err))
	}
	if s.claims, err = s.main.Describe(ctx, &backendv1.DescribeRequest{}); err != nil {
		return rterr.Wrap(rterr.PluginUnavailable, "describe", rtgrpc.FromStatus(err))
	}
	s.expect = s.claims.GetCapabilities()
	if s.target.Expect != nil {
		s.expect = proto.CloneOf(s.target.Expect)
	}
	return nil
}

// dial connects to the address, or launches a plugin of its own with a folder of its own.
func (s *suite) dial(ctx context.Context) (*peer, error) {
	if s.target.Address != "" {
		p, err := launch.Dial(s.target.Address, s.target.TLS, s.bare.unary, s.bare.stream)
		return s.peer(p, s.target.StateDir, s.target.Owner), err
	}
	if err := os.MkdirAll(s.target.StateDir, 0o700); err != nil {
		return nil, rterr.Wrap(rterr.Internal, "make state folder", err)
	}
	// Short names: sockets may live below, and their paths are limited to about a hundred bytes.
	dir, err := os.MkdirTemp(s.target.StateDir, "s")
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "make state folder", err)
	}
	return s.launch(ctx, dir, s.target.Owner+"-"+filepath.Base(dir))
}

// launch starts a plugin over an existing folder, for an owner.
func (s *suite) launch(ctx context.Context, stateDir, owner string) (*peer, error) {
	p, err := launch.Start(ctx, launch.Config{Command: s.target.Command, Env: s.target.Env,
		Unary: s.bare.unary, Stream: s.bare.stream, Logger: s.log})
	if err != nil {
		return nil, err
	}
	return s.peer(p, stateDir, owner), nil
}

func (s *suite) peer(p *launch.Plugin, stateDir, owner string) *peer {
	if p == nil {
		return nil
	}
	return &peer{BackendServiceClient: backendv1.NewBackendServiceClient(p.Conn), plugin: p, stateDir: stateDir, owner: owner}
}

func (s *suite) configure(ctx context.Context, p *peer, config json.RawMessage) (*backendv1.ConfigureResponse, error) {
	return p.Configure(ctx, &backendv1.ConfigureRequest{
		Config: config, Credentials: s.target.Credentials, Owner: p.owner,
		StateDir: p.stateDir, Backend: s.target.Backend,
	})
}

// shared returns a running sandbox that clauses share; a clause must leave it as it was.
func (s *suite) shared(ctx context.Context) (*sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.common != nil {
		return s.common, nil
	}
	sb, err := s.connect(ctx, s.main, s.request())
	if err != nil {
		return nil, err
	}
	s.common = sb
	s.made = append(s.made, sb)
	return sb, nil
}

// retire keeps a clause's failure from spreading: the next one gets a new shared sandbox.
func (s *suite) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.common = nil
}

// close ends everything of this run's owner, then the plugin. What could not be ended is logged: the clauses have judged it.
func (s *suite) close() {
	if s.main == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanLimit)
	defer cancel()
	for _, sb := range s.made {
		sb.discard(ctx)
	}
	s.stop(ctx, s.main)
}

// stop ends what is left of a connection's sandboxes, then the plugin.
func (s *suite) stop(ctx context.Context, p *peer) {
	s.sweep(ctx, p)
	if err := p.plugin.Stop(); err != nil {
		s.log.Warn("stop plugin", "error", err)
	}
}

// sweep ends what clauses left behind. A plugin that is dead, or was never configured, has its successor do that.
func (s *suite) sweep(ctx context.Context, p *peer) {
	left, err := listAll(ctx, p, &backendv1.ListRequest{})
	if err != nil {
		s.log.Debug("list sandboxes that are left", "error", err)
		return
	}
	for _, l := range left {
		_, err := p.Close(ctx, &backendv1.CloseRequest{Handle: l.GetHandle(), Mode: backendv1.CloseMode_CLOSE_MODE_DELETE})
		s.log.Warn("closed a sandbox that a clause left", "sandbox", l.GetHandle().GetSandboxId(), "error", err)
	}
}

// workspace makes a folder of this machine that any uid may write to.
func (s *suite) workspace() (string, error) {
	dir, err := os.MkdirTemp(s.target.Workspaces, "w")
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o777)
}

// mint returns a new name that is also a DNS label.
func mint(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text())
}
