// Package launch starts a plugin binary, or dials a backend that is served at an address, and returns the connection.
//
// It is what the conformance suite needs of go-plugin and no more: no restart, no budget, no checksum. It is written apart from
// the host's supervisor on purpose, so that the suite does not share the host's mistakes. The suite and the proxies that test
// it import it, nobody else.
package launch

import (
	"context"
	"crypto/tls"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// The waits of this package.
const (
	// startLimit bounds the time from the start of a binary to its handshake line.
	startLimit = 30 * time.Second
	// stopLimit is how long a plugin may take to end by itself before it is killed.
	stopLimit = 5 * time.Second
	// killLimit bounds the wait for a killed process and for go-plugin's own goroutines.
	killLimit = 5 * time.Second
)

// maxMessage is the largest gRPC message in bytes, as backend.v1 has it, both ways.
const maxMessage = serve.MaxMessage

// Config says what to launch and how.
type Config struct {
	// Command is the binary and its arguments. Required.
	Command []string
	// Env is added to a small allow-list of this process's environment (PATH, HOME, TMPDIR, LANG).
	Env []string
	// Interceptors wrap every call, unary and streaming; nil for none.
	Unary  grpc.UnaryClientInterceptor
	Stream grpc.StreamClientInterceptor
	// Logger gets what the plugin writes to stderr, line by line at debug level. Nil discards it.
	Logger hclog.Logger
}

// Plugin is one connection to a backend. All methods may be called from any goroutine.
type Plugin struct {
	// Conn carries backend.v1. Owned by Plugin.
	Conn *grpc.ClientConn

	client  *goplugin.Client
	process *process
	tail    *tail
}

// Start launches the binary with AutoMTLS and returns once it is connected. Errors are PluginUnavailable with the last lines of
// stderr as evidence; nothing is left running then.
func Start(ctx context.Context, cfg Config) (*Plugin, error) {
	if len(cfg.Command) == 0 {
		return nil, rterr.Invalid("launch plugin", "command", "is empty")
	}
	if err := ctx.Err(); err != nil {
		return nil, rterr.Wrap(rterr.Cancelled, "launch plugin", err)
	}
	process, err := newProcess(exec.Command(cfg.Command[0], cfg.Command[1:]...))
	if err != nil {
		return nil, err
	}
	p := &Plugin{tail: newTail(cfg.Logger), process: process}
	p.client = goplugin.NewClient(p.clientConfig(cfg))
	// go-plugin has no way to give up a start; the end of the process is one.
	release := context.AfterFunc(ctx, func() { _ = process.Kill(context.Background()) })
	protocol, err := p.client.Client()
	if err == nil {
		p.Conn, err = connection(protocol)
	}
	if !release() || err != nil {
		_ = p.Stop()
		if ctx.Err() != nil {
			return nil, rterr.Wrap(rterr.Cancelled, "launch "+cfg.Command[0], ctx.Err())
		}
		return nil, rterr.New(rterr.PluginUnavailable, "launch "+cfg.Command[0], "%s", firstLine(err.Error())).
			With("stderr", p.tail.String())
	}
	return p, nil
}

func (p *Plugin) clientConfig(cfg Config) *goplugin.ClientConfig {
	options := []grpc.DialOption{grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage))}
	options = append(options, interceptors(cfg.Unary, cfg.Stream)...)
	return &goplugin.ClientConfig{
		HandshakeConfig:  serve.Handshake(),
		VersionedPlugins: serve.Plugins(nil),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     startLimit,
		GRPCDialOptions:  options,
		// go-plugin parses log lines with unchecked assertions; a logger that is off makes it pass the bytes on unread.
		Logger:     hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
		Stderr:     p.tail,
		SyncStdout: io.Discard,
		SyncStderr: io.Discard,
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			p.process.cmd.Env = append(append(append(allowed(), cfg.Env...), lifelineEnv()), cmd.Env...)
			return p.process, nil
		},
	}
}

// Dial connects to a backend that is served at an address: "unix:///path" or "host:port". Without tlsConfig the connection is
// plain, which is for unix sockets and loopback. The first call, not Dial, tells whether anybody answers.
func Dial(address string, tlsConfig *tls.Config, unary grpc.UnaryClientInterceptor, stream grpc.StreamClientInterceptor) (*Plugin, error) {
	secure := insecure.NewCredentials()
	if tlsConfig != nil {
		secure = credentials.NewTLS(tlsConfig)
	}
	options := append(interceptors(unary, stream), grpc.WithTransportCredentials(secure), grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, rterr.Wrap(rterr.InvalidArgument, "dial "+address, err)
	}
	return &Plugin{Conn: conn}, nil
}

// Exited is closed when the launched process has ended; nil, which never is, for a dialled one.
func (p *Plugin) Exited() <-chan struct{} {
	if p.process == nil {
		return nil
	}
	return p.process.exited
}

// Kill ends the launched process with SIGKILL, as a crash would, and returns when it is dead. The connection stays until Stop.
func (p *Plugin) Kill() error {
	if p.process == nil {
		return rterr.New(rterr.Unsupported, "kill plugin", "it was dialled, not launched")
	}
	return p.process.Kill(context.Background())
}

// HangUp closes the launched process's lifeline, its standard input, as the death of this process would.
func (p *Plugin) HangUp() {
	if p.process != nil {
		_ = p.process.stdin.Close()
	}
}

// Stderr returns the last lines that the process wrote.
func (p *Plugin) Stderr() string {
	if p.tail == nil {
		return ""
	}
	return p.tail.String()
}

// Stop ends the connection and the launched process: asks first, kills after stopLimit. Safe to call more than once.
func (p *Plugin) Stop() error {
	if p.client == nil {
		return p.Conn.Close()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.client.Kill()
	}()
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.process.exited:
	case <-timer.C:
	}
	err := p.process.Kill(context.Background())
	p.process.closePipes()
	return p.await(done, err)
}

func (p *Plugin) await(done <-chan struct{}, err error) error {
	timer := time.NewTimer(killLimit)
	defer timer.Stop()
	select {
	case <-done:
		return err
	case <-timer.C:
		return rterr.New(rterr.Timeout, "stop plugin", "go-plugin did not let go within %v", killLimit)
	}
}

func interceptors(unary grpc.UnaryClientInterceptor, stream grpc.StreamClientInterceptor) []grpc.DialOption {
	var options []grpc.DialOption
	if unary != nil {
		options = append(options, grpc.WithChainUnaryInterceptor(unary))
	}
	if stream != nil {
		options = append(options, grpc.WithChainStreamInterceptor(stream))
	}
	return options
}

// allowed is what of this process's environment a plugin sees.
func allowed() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "USER"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
