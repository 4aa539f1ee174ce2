package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/encoding/protojson"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

// Env is what a backend is given by the plugin's main.
type Env struct {
	// Logger writes where the host reads, at the level that the host wants. Never log secrets.
	Logger hclog.Logger
}

// Options say who a plugin is.
type Options struct {
	// Name of the kind of backend ("local") and version of the plugin.
	Name, Version string
	// New returns the backend. It is called once per process, also for "describe": it starts nothing and reads no provider; that
	// is Configure's work. Embed backendv1.UnimplementedBackendServiceServer for what the backend cannot do.
	New func(Env) (backendv1.BackendServiceServer, error)
}

// The exit statuses of a plugin.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// Main runs a plugin as its arguments and environment ask, and exits. It never returns, and must be the first thing that a
// plugin's main does.
func Main(o Options) {
	stdout, err := takeStdout()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: keep standard output for the host: %v\n", o.Name, err)
		os.Exit(exitError)
	}
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	m := &program{Options: o, stdin: os.Stdin, stdout: stdout, stderr: os.Stderr, getenv: os.Getenv}
	code := m.run(ctx, os.Args[1:])
	cancel()
	os.Exit(code)
}

// program is one run of a plugin, with everything it takes from its process.
type program struct {
	Options
	stdin          *os.File
	stdout, stderr io.Writer
	getenv         func(string) string
}

func (m *program) run(ctx context.Context, args []string) int {
	if len(args) == 0 && m.getenv(cookieKey) == cookieValue {
		return m.exit(m.servePlugin(ctx))
	}
	if len(args) == 0 {
		m.explain()
		return exitUsage
	}
	switch args[0] {
	case "describe":
		return m.exit(m.describe(ctx))
	case "serve":
		return m.exit(m.serveAddress(ctx, args[1:]))
	case "version", "-version", "--version":
		fmt.Fprintf(m.stdout, "%s %s (backend protocol %d, sdk %s)\n", m.Name, m.Version, Protocol, sdkVersion())
		return exitOK
	case "help", "-h", "-help", "--help":
		m.explain()
		return exitOK
	default:
		fmt.Fprintf(m.stderr, "unknown command %q\n\n", args[0])
		m.explain()
		return exitUsage
	}
}

func (m *program) exit(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	default:
		fmt.Fprintf(m.stderr, "%s: %v\n", m.Name, err)
		return exitError
	}
}

func (m *program) explain() {
	fmt.Fprintf(m.stderr, `This is %q, a backend plugin of openhands-rt. The daemon starts it; by hand it does little:

  describe                       print what the plugin is and can do, as JSON
  serve --address ADDRESS        serve the backend contract at unix:///PATH or tcp://HOST:PORT
  version                        print the version

To use it, name this file in the daemon's config:

  backends:
    NAME:
      command: [%q]
`, m.Name, programPath())
}

func programPath() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// describe prints DescribeResponse as JSON and serves nothing.
func (m *program) describe(ctx context.Context) error {
	b, err := newBackend(m.Options, m.logger(false))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, describeLimit)
	defer cancel()
	answer, err := b.Describe(ctx, &backendv1.DescribeRequest{})
	if err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.stdout, "%s\n", text)
	return err
}

// logger writes to stderr: JSON for a host, lines for people.
func (m *program) logger(json bool) hclog.Logger {
	level := hclog.LevelFromString(m.getenv(EnvLogLevel))
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	return hclog.New(&hclog.LoggerOptions{Name: m.Name, Level: level, Output: m.stderr, JSONFormat: json})
}
