package boot

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/openhands-rt/openhands-rt/sdk/agent/files"
	"github.com/openhands-rt/openhands-rt/sdk/agent/ports"
	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/agent/socket"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// engineFactory makes what runs the actions.
type engineFactory func(cfg Config, tree sandbox.Tree, log hclog.Logger) (server.Engine, error)

// Run is an agent from its start to its end: it returns when it was shut down or ctx is done (nil), when its lease ended
// (server.ErrLeaseEnded), or with what kept it from starting, which it has also written to the ready descriptor. By then its
// tree is dead, and socket, log and descriptors are closed. It makes the process a subreaper; signals, limits and standard
// descriptors are Main's business. One at a time in a process.
func Run(ctx context.Context, cfg Config) error { return run(ctx, cfg, newEngine) }

func run(ctx context.Context, cfg Config, make engineFactory) (err error) {
	announce := newAnnouncer(cfg.ReadyFD, time.Now())
	log, closeLog := openLog(cfg)
	defer func() { err = errors.Join(err, closeLog()) }()
	defer func() {
		if err == nil {
			return
		}
		log.Error("agent has failed", "error", err)
		if failure := announce.failed(err); failure != nil {
			log.Warn("nobody could be told why the agent did not start", "error", failure)
		}
	}()
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return rterr.Wrap(rterr.ConfigInvalid, "start agent", err)
	}
	tree, err := sandbox.NewTree(sandbox.TreeConfig{Cgroup: cfg.Cgroup, LimitGroups: cfg.LimitGroups, Logger: log.Named("tree")})
	if err != nil {
		return rterr.Wrap(rterr.Internal, "start agent", err)
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	engine, err := make(cfg, tree, log.Named("engine"))
	if err != nil {
		return rterr.Wrap(rterr.Internal, "start agent", err)
	}
	err = serve(ctx, cfg, tree, engine, log, announce)
	if errors.Is(err, errNotServed) {
		_, killErr := tree.Kill()
		err = errors.Join(err, engine.Close(context.WithoutCancel(ctx)), killErr)
	}
	return err
}

// errNotServed marks the errors after which the engine is still open.
var errNotServed = errors.New("start agent")

func serve(ctx context.Context, cfg Config, tree sandbox.Tree, engine server.Engine, log hclog.Logger, announce *announcer) error {
	service, err := files.New(files.Config{Workspace: cfg.Workspace, Root: cfg.Root, StateDir: cfg.StateDir, Logger: log.Named("files")})
	if err != nil {
		return errors.Join(errNotServed, err)
	}
	defer service.Close()
	proxy := ports.New(ports.Config{Logger: log.Named("ports")})
	defer proxy.Close()
	direct, directAddress, err := listenDirect(cfg)
	if err != nil {
		return errors.Join(errNotServed, err)
	}
	s, err := server.New(server.Config{
		Engine: engine, Tree: tree, Credential: cfg.Credential, Lease: time.Duration(cfg.Lease), Direct: direct, DirectKey: cfg.V0Key,
		Identity: identity(cfg, announce.startedAt), Files: service, Ports: proxy, Logger: log.Named("server"),
	})
	if err != nil {
		return errors.Join(errNotServed, err, closeIf(direct))
	}
	ln, address, err := listen(cfg)
	if err != nil {
		return errors.Join(errNotServed, err, closeIf(direct))
	}
	if err := announce.ready(address, directAddress); err != nil { // whoever started us has gone: then the lease will end us
		log.Warn("nobody could be told that the agent is ready", "error", err)
	}
	log.Info("agent is ready", "address", address, "pid", os.Getpid(), "runtime", cfg.RuntimeID, "sandbox", cfg.SandboxID,
		"tree", tree.Kind())
	debug.FreeOSMemory() // what the start needed is not needed again
	return s.Serve(ctx, ln)
}

func identity(cfg Config, startedAt time.Time) server.Identity {
	return server.Identity{
		Nonce: cfg.Nonce, SandboxID: cfg.SandboxID, RuntimeID: cfg.RuntimeID, Generation: cfg.Generation, Username: cfg.Username,
		Workspace: cfg.Workspace, Home: cfg.Home, Version: version(), StartedAt: startedAt,
	}
}

// version of the binary, as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}

func listen(cfg Config) (net.Listener, string, error) {
	if cfg.Socket != "" {
		ln, err := socket.Listen(cfg.Socket)
		return ln, "unix://" + cfg.Socket, err
	}
	return listenTCP(cfg.Listen)
}

// listenDirect opens the listener of V0 clients; nil if there is to be none.
func listenDirect(cfg Config) (net.Listener, string, error) {
	if cfg.V0Listen == "" {
		return nil, "", nil
	}
	return listenTCP(cfg.V0Listen)
}

func listenTCP(address string) (net.Listener, string, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, "", rterr.Wrap(rterr.Network, "listen at "+address, err)
	}
	return ln, "http://" + ln.Addr().String(), nil
}

func closeIf(ln net.Listener) error {
	if ln == nil {
		return nil
	}
	return ln.Close()
}

// openLog opens the log file. Rotation bounds it; a full disk loses lines, not the agent.
func openLog(cfg Config) (hclog.Logger, func() error) {
	if cfg.LogFile == "" {
		return hclog.NewNullLogger(), func() error { return nil }
	}
	level := hclog.LevelFromString(cfg.LogLevel)
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	out := &lumberjack.Logger{Filename: cfg.LogFile, MaxSize: logMegabytes, MaxBackups: logBackups}
	log := hclog.New(&hclog.LoggerOptions{Name: "agent", Level: level, Output: io.Writer(out), JSONFormat: true})
	return log, out.Close
}
