package boot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/agent/server"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

// The exit codes of the role.
const (
	ExitOK = 0
	// ExitFailed: it could not start, or could not end its tree.
	ExitFailed = 1
	// ExitUsage: arguments or config are wrong.
	ExitUsage = 2
	// ExitLeaseEnded: nobody renewed its lease, so it killed its tree.
	ExitLeaseEnded = 3
)

// An agent idles most of its life beside many others: it gives memory back early.
const (
	gcPercent   = 40
	memoryLimit = 256 << 20
	// defaultConfigFD is where the config is read from if no argument says otherwise: the first extra file of os/exec.
	defaultConfigFD = 3
)

// Main is the role `openhands-rt agent`; args are what follows the role's name: --config-fd N (the default is 3) or
// --config FILE; and --v0-listen ADDRESS, the address for clients that speak OpenHands' V0 protocol to the sandbox itself, with
// their session key in the file that --v0-key-file names or in SESSION_API_KEY. Both override the config. It blocks until the
// agent has ended and returns the exit code. The process is its alone: it takes over signals and standard descriptors, and makes it
// non-dumpable.
func Main(args []string) int { return mainWith(args, Run) }

func mainWith(args []string, runAgent func(context.Context, Config) error) int {
	// No inherited descriptor may reach a command of the sandbox.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return complain(ExitFailed, err)
	}
	cfg, err := configFromArgs(args)
	if errors.Is(err, flag.ErrHelp) {
		return ExitOK
	}
	if err != nil {
		return complain(ExitUsage, err)
	}
	if err := sandbox.SetNonDumpable(); err != nil {
		return complain(ExitFailed, err)
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if err := leaveTerminal(cfg); err != nil {
		return complain(ExitFailed, err)
	}
	// Caught and not read, rather than ignored: what is ignored stays ignored in every command of the sandbox.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return exitCode(runAgent(ctx, cfg))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, server.ErrLeaseEnded):
		return ExitLeaseEnded
	default:
		return ExitFailed
	}
}

func complain(code int, err error) int {
	fmt.Fprintf(os.Stderr, "openhands-rt agent: %v\n", err)
	return code
}

func configFromArgs(args []string) (Config, error) {
	set := flag.NewFlagSet("agent", flag.ContinueOnError)
	fd := set.Uint("config-fd", defaultConfigFD, "inherited `descriptor` to read the config from")
	file := set.String("config", "", "`file` to read the config from instead")
	v0 := v0Flags{
		listen:  set.String("v0-listen", "", "`address` for clients of OpenHands' V0 protocol"),
		keyFile: set.String("v0-key-file", "", "`file` with their session key; the default is $SESSION_API_KEY"),
	}
	if err := set.Parse(args); err != nil {
		return Config{}, err
	}
	if set.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	var cfg Config
	var err error
	if *file != "" {
		cfg, err = configFromFile(*file)
	} else {
		cfg, err = ConfigFromFD(int(*fd))
	}
	if err != nil {
		return Config{}, err
	}
	return v0.apply(cfg)
}

func configFromFile(name string) (Config, error) {
	f, err := os.Open(name)
	if err != nil {
		return Config{}, err
	}
	defer f.Close()
	return ConfigFromReader(f)
}

// v0KeyVar is the variable that OpenHands has for the session key. It is taken out of the environment.
const v0KeyVar = "SESSION_API_KEY"

// v0Flags are what the arguments say of the V0 listener.
type v0Flags struct{ listen, keyFile *string }

// apply puts them over a config. Without a listener, the key is of no use and left alone.
func (f v0Flags) apply(cfg Config) (Config, error) {
	key := os.Getenv(v0KeyVar)
	if err := os.Unsetenv(v0KeyVar); err != nil {
		return Config{}, err
	}
	if *f.listen != "" {
		cfg.V0Listen = *f.listen
	}
	if cfg.V0Listen == "" {
		return cfg, nil
	}
	if *f.keyFile != "" {
		raw, err := os.ReadFile(*f.keyFile)
		if err != nil {
			return Config{}, err
		}
		key = strings.TrimSpace(string(raw))
	}
	if key != "" {
		cfg.V0Key = key
	}
	return cfg, cfg.Validate()
}

// ConfigFromFD reads a config from an inherited descriptor to its end, and closes it.
func ConfigFromFD(fd int) (Config, error) {
	f := os.NewFile(uintptr(fd), "config")
	if f == nil {
		return Config{}, invalid("config-fd", "%d is no descriptor", fd)
	}
	defer f.Close()
	return ConfigFromReader(f)
}

// leaveTerminal lets go of the standard descriptors of whoever started us, and sends the last words of a crash to a file.
func leaveTerminal(cfg Config) error {
	if cfg.LogFile != "" {
		crash, err := os.OpenFile(cfg.LogFile+".crash", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer crash.Close()
		if err := debug.SetCrashOutput(crash, debug.CrashOptions{}); err != nil {
			return err
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return nil
}
