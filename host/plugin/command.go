package plugin

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// processLink is a plugin that we launched.
type processLink struct {
	client  *goplugin.Client
	conn    *grpc.ClientConn
	process *process
	sink    *sink
	logger  hclog.Logger
	sha256  string
}

var _ link = (*processLink)(nil)

// launch starts the plugin of spec and shakes hands. On error nothing is left of it.
func launch(ctx context.Context, spec Spec, sockets string, hostEnv []string, t *thread, logger hclog.Logger) (link, error) {
	exe, err := openExecutable(spec)
	if err != nil {
		return nil, err
	}
	defer exe.file.Close()
	l := &processLink{sink: newSink(logger), logger: logger, sha256: exe.sha256}
	l.process = newProcess(spec, environ(spec, hostEnv, logger.GetLevel()), exe, t, l.sink)
	var dir string
	l.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  serve.Handshake(),
		VersionedPlugins: serve.Plugins(nil),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     spec.Timing.Start,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: sockets},
		RunnerFunc: func(_ hclog.Logger, given *exec.Cmd, socketDir string) (runner.Runner, error) {
			dir = socketDir
			l.process.adopt(given, socketDir)
			return l.process, nil
		},
		GRPCDialOptions: messageLimits(),
		SyncStdout:      &streamWriter{sink: l.sink, name: "stdout"},
		SyncStderr:      &streamWriter{sink: l.sink, name: "stderr"},
		// What it has to say is said here, once, with the plugin's own last words.
		Logger: hclog.NewNullLogger(),
	})
	// go-plugin's Start takes no context; the death of the process ends it.
	release := context.AfterFunc(ctx, func() { l.process.end(syscall.SIGKILL) })
	defer release()
	protocol, err := l.client.Client()
	if err != nil {
		return nil, l.giveUp(ctx, spec, dir, err)
	}
	l.conn = protocol.(*goplugin.GRPCClient).Conn
	return l, nil
}

// giveUp cleans up after a launch that failed, and explains it.
func (l *processLink) giveUp(ctx context.Context, spec Spec, dir string, err error) error {
	if l.process.processID() == 0 {
		// go-plugin forgets its folder when there was no process.
		_ = os.RemoveAll(dir)
		return l.startError(ctx, spec, err)
	}
	err = l.startError(ctx, spec, err)
	l.end(ended(), spec.Timing)
	return err
}

func messageLimits() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(serve.MaxMessage), grpc.MaxCallSendMsgSize(serve.MaxMessage))}
}

// ended is a context without patience.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// startError tells why there was no handshake, with the plugin's own words. The process is gone, or as good as gone.
func (l *processLink) startError(ctx context.Context, spec Spec, err error) error {
	op := "launch plugin " + spec.Backend
	if ctx.Err() != nil {
		return rterr.Wrap(rterr.Cancelled, op, context.Cause(ctx))
	}
	if l.process.processID() != 0 {
		waitFor(l.process.exited, lossLimit)
	}
	f := l.fate()
	e := rterr.New(rterr.PluginUnavailable, op, "%v", err)
	if l.process.endedItself() && !l.process.shookHands() {
		e = rterr.New(rterr.PluginUnavailable, op, "no handshake from %s: %s", l.process.exe.path, f.status)
	}
	return withFate(e.WithCause(err), f)
}

func (l *processLink) raw() grpc.ClientConnInterface  { return l.conn }
func (l *processLink) lost() <-chan struct{}          { return l.process.exited }
func (l *processLink) hide(secrets map[string]string) { l.sink.hide(secrets) }
func (l *processLink) identity() identity {
	return identity{pid: l.process.processID(), sha256: l.sha256}
}

func (l *processLink) fate() fate {
	f := fate{status: l.process.exitStatus(), output: l.sink.output()}
	f.lines, f.panicText = l.sink.evidence()
	return f
}

// end walks the ladder: Drain, go-plugin's shutdown, SIGTERM, SIGKILL, each with its limit, all to the whole group.
func (l *processLink) end(patient context.Context, timing Timing) {
	if patient.Err() == nil && l.conn != nil && !isClosed(l.process.exited) {
		l.drain(patient, timing.Drain)
	}
	if patient.Err() != nil {
		l.process.end(syscall.SIGKILL)
	}
	released := make(chan struct{})
	go func() { defer close(released); l.client.Kill() }() // waits without limit: not here
	if !waitFor(l.process.exited, shutdownLimit) {
		l.logger.Warn("the plugin does not stop, terminating it", "pid", l.process.processID())
		l.process.end(syscall.SIGTERM)
		if !waitFor(l.process.exited, termLimit) {
			l.process.end(syscall.SIGKILL)
			waitFor(l.process.exited, reapLimit)
		}
	}
	if !waitFor(released, reapLimit) {
		l.logger.Error("go-plugin does not let go of a plugin", "pid", l.process.processID(), "exit_status", l.process.exitStatus())
	}
}

func (l *processLink) drain(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := backendv1.NewBackendServiceClient(l.conn).Drain(ctx, &backendv1.DrainRequest{})
	if err != nil {
		l.logger.Debug("drain", "error", fmt.Sprint(err))
	}
}

// waitFor reports whether c closed within the limit.
func waitFor(c <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return isClosed(c)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
