// Package service is the local backend: backend.v1 on this machine's processes and folders.
//
// It keeps nothing in memory that the folders do not say: what is here are connections, and who waits for what.
package service

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/plugins/local/internal/config"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/folder"
	"github.com/openhands-rt/openhands-rt/plugins/local/internal/python"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// Service implements backend.v1. Make it with New; every method may be called from any goroutine.
type Service struct {
	backendv1.UnimplementedBackendServiceServer

	log     hclog.Logger
	version string
	// machine is what this machine allows, tried once.
	machine func() machine
	turns   turns
	// ctx is the life of the guards, which stop ends and waits for.
	ctx    context.Context
	cancel context.CancelFunc
	guards sync.WaitGroup

	mu sync.Mutex
	// set is what Configure said last; nil before.
	set *settings
	// live are the sandboxes that are watched, by id.
	live map[string]*live
}

// machine is what the probes found.
type machine struct {
	placement sandbox.Placement
	notes     []string
}

// settings are one Configure's; never changed, only replaced.
type settings struct {
	config.Settings
	owner   string
	backend string
	root    folder.Root
	machine
	// mounted: sandboxes get a root of their own; why says why not.
	mounted bool
	why     string
	// base is where kernels take their packages from if the config names nothing.
	base *python.Base
}

// New returns what serve.Options wants.
func New(version string) func(serve.Env) (backendv1.BackendServiceServer, error) {
	return func(env serve.Env) (backendv1.BackendServiceServer, error) {
		return newService(version, env.Logger), nil
	}
}

func newService(version string, log hclog.Logger) *Service {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	s := &Service{log: log, version: version, live: map[string]*live{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.machine = sync.OnceValue(func() machine {
		p, notes := sandbox.FindPlacement(s.ctx)
		return machine{placement: p, notes: notes}
	})
	return s
}

// stop ends everything of the service but the sandboxes, and waits for it.
func (s *Service) stop() {
	s.cancel()
	s.guards.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.live {
		l.drop()
	}
}

// configured returns the settings in force; IllegalState before the first Configure.
func (s *Service) configured(op string) (*settings, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		return nil, rterr.New(rterr.IllegalState, op, "the backend is not configured").WithRemedy("call Configure first").WithRan(rterr.RanNo)
	}
	return s.set, nil
}

// Describe says what is known without asking the machine; what must be tried is claimed after Configure.
func (s *Service) Describe(context.Context, *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	schema, err := config.Schema()
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "describe local backend", err)
	}
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	return &backendv1.DescribeResponse{
		Name: "local", Version: s.version, Capabilities: set.capabilities(), ConfigSchema: schema,
	}, nil
}

// capabilities of no settings at all are what needs no trial.
func (set *settings) capabilities() *backendv1.Capabilities {
	c := &backendv1.Capabilities{
		Pause: true, PauseKeepsProcesses: true, AgentEndpoint: true, OnceOnly: true, Ports: true, Logs: true, Diagnose: true, Interactive: true,
		Isolation: config.LevelProcess, WholeTree: true, Kinds: []string{action.KindProcess, action.KindRun},
	}
	if set == nil {
		return c
	}
	c.LimitMemory = set.placement.Can(sandbox.LimitMemory)
	c.LimitCpu = set.placement.Can(sandbox.LimitCPU)
	c.LimitPids = set.placement.Can(sandbox.LimitPids)
	c.Usage = set.placement.V2 != ""
	c.WorkspaceMount = set.mounted
	return c
}

// beside is the folder of the plugin's own program.
func beside() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(path)
}
