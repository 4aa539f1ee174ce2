// Package service is the Runloop backend: backend.v1 on Runloop's devboxes.
//
// It keeps nothing in memory that Runloop and the handles do not say: what is here are the settings, connections, and who waits
// for what.
package service

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/client"
	"github.com/openhands-rt/openhands-rt/plugins/runloop/internal/config"
	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// Service implements backend.v1. Make it with New; every method may be called from any goroutine.
type Service struct {
	backendv1.UnimplementedBackendServiceServer

	log     hclog.Logger
	version string
	waits   waits
	turns   turns
	agents  agents
	evicted evictions
	// ctx is the life of what runs beside the calls, which stop ends and waits for.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu sync.Mutex
	// set is what Configure said last; nil before.
	set *settings
}

// settings are one Configure's; never changed, only replaced.
type settings struct {
	config.Settings
	owner, backend string
	api            *client.Client
	// programs of the agent by architecture; empty where there is none, or none is needed.
	programs map[string]*program
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
	s := &Service{log: log, version: version, waits: defaultWaits()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// stop ends everything of the service but the devboxes, and waits for it.
func (s *Service) stop() {
	s.cancel()
	s.tasks.Wait()
	s.agents.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set != nil {
		s.set.api.Close()
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

// Describe says what the plugin is, and what the mode in force can do.
func (s *Service) Describe(context.Context, *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	schema, err := config.Schema()
	if err != nil {
		return nil, rterr.Wrap(rterr.Internal, "describe runloop backend", err)
	}
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	return &backendv1.DescribeResponse{
		Name: "runloop", Version: s.version, Capabilities: set.capabilities(), ConfigSchema: schema,
	}, nil
}

// capabilities of no settings at all are those of the default mode.
func (set *settings) capabilities() *backendv1.Capabilities {
	c := &backendv1.Capabilities{
		Pause: true, Snapshot: true, Usage: true, Logs: true, Diagnose: true, Isolation: "vm",
		AgentEndpoint: true, OnceOnly: true, Ports: true, Interactive: true, WholeTree: true,
		Kinds: []string{action.KindProcess, action.KindRun},
	}
	if set == nil {
		return c
	}
	if set.isBare() {
		return set.bareCapabilities()
	}
	c.Vscode = set.VSCode != nil
	c.WorkspaceMount = set.Workspace == mountedWorkspace
	return c
}

// Configure checks everything, and only then puts the new settings in the place of the old ones. A new key takes effect for calls
// that are under way, too.
func (s *Service) Configure(_ context.Context, req *backendv1.ConfigureRequest) (*backendv1.ConfigureResponse, error) {
	const op = "configure runloop backend"
	if req.GetOwner() == "" || strings.ContainsAny(req.GetOwner(), "\x00\n") {
		return nil, rterr.Invalid(op, "owner", "%q cannot be the name of an owner", req.GetOwner())
	}
	parsed, err := config.Parse(req.GetConfig(), os.Getenv)
	if err != nil {
		return nil, err
	}
	key, err := keyOf(req.GetCredentials())
	if err != nil {
		return nil, err
	}
	programs, err := findPrograms(&parsed, beside())
	if err != nil {
		return nil, err
	}
	set := &settings{Settings: parsed, owner: req.GetOwner(), backend: req.GetBackend(), programs: programs}
	if err := s.install(set, key); err != nil {
		return nil, err
	}
	return &backendv1.ConfigureResponse{Capabilities: set.capabilities(), Warnings: set.warnings()}, nil
}

// keyOf checks the API key.
func keyOf(credentials map[string]string) (string, error) {
	key := strings.TrimSpace(credentials[config.APIKey])
	remedy := "set RUNLOOP_API_KEY to a key from Runloop's dashboard, and refer to it in the config: " +
		"credentials: {api_key: {env: RUNLOOP_API_KEY}}"
	switch {
	case key == "":
		return "", config.Invalid("credentials."+config.APIKey, "there is no API key").WithRemedy(remedy)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", config.Invalid("credentials."+config.APIKey, "the API key has characters that no key has").WithRemedy(remedy)
	}
	return key, nil
}

// install puts settings in force. The client of the API stays the same where it is reached the same way.
func (s *Service) install(set *settings, key string) error {
	cfg := client.Config{
		BaseURL: set.BaseURL, UserAgent: "openhands-rt/" + s.version, Retries: set.Retries, Delay: set.RetryDelay, MaxDelay: set.RetryMax,
		Logger: s.log.Named("api"),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.set; old != nil && same(old.api.Config(), cfg) {
		set.api = old.api
		set.api.SetKey(key)
		s.set = set
		return nil
	}
	fresh, err := client.New(cfg, key)
	if err != nil {
		return err
	}
	if s.set != nil {
		s.set.api.SetKey(key) // Calls that are under way go on with it.
		s.set.api.Close()
	}
	set.api = fresh
	s.set = set
	return nil
}

func same(a, b client.Config) bool {
	a.Logger, b.Logger = nil, nil
	return a == b
}

// warnings are what works less well than one might think.
func (set *settings) warnings() []string {
	var out []string
	if set.AfterIdle != nil {
		out = append(out, "after_idle takes the place of Runloop's keep-alive: a devbox that nobody renews ends by its own lease alone")
	}
	if set.VSCode != nil && set.TunnelAuth == "authenticated" {
		out = append(out, "a browser cannot open VSCode through an authenticated tunnel: set tunnel_auth to open, or put a proxy before it "+
			"that adds the header "+tunnelHeader)
	}
	return out
}

// beside is the folder of the plugin's own program.
func beside() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(path)
}
