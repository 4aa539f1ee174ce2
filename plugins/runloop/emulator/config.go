package emulator

import (
	"io"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Config says how an emulator behaves. The zero value is a server on free ports of the loopback that answers without delays or faults.
type Config struct {
	// Listen and TunnelListen are the addresses of the API and of the tunnels, "host:port". Empty: a free port of 127.0.0.1.
	Listen, TunnelListen string
	// Key is the bearer key that is accepted. Empty: DefaultKey.
	Key string
	// DataDir is where the folder with the disks is made; empty: the system's folder for temporary files.
	DataDir string
	// Delay is how long a devbox stays in each state on its way, and how long a snapshot or a blueprint takes. Zero: no longer than
	// the work itself.
	Delay time.Duration
	// Holds bound how long a request is held; zero values are the documented ones.
	Holds Holds
	// Seed decides which requests are hit by faults that have a probability.
	Seed uint64
	// Faults are in force from the start.
	Faults Faults
	// NoReplay switches off that a POST with a known x-request-id is answered with the first answer.
	NoReplay bool
	// Quota is how many devboxes may be alive at once; zero: any number.
	Quota int
	// Log gets a line for each request at debug level. Nil: none.
	Log hclog.Logger
}

// Holds are the longest times for which the server holds a request.
type Holds struct {
	// Devbox and Execution bound wait_for_status. Zero: 30 s and 25 s.
	Devbox, Execution time.Duration
	// Stream is how long an output stream may be silent before it is ended with a 408 event. Zero: 30 s.
	Stream time.Duration
}

// DefaultKey is the key that an emulator accepts when its configuration names none.
const DefaultKey = "ak_emulator"

// Every wait of the package beside those of Config.
const (
	// defaultDevboxHold is how long wait_for_status of a devbox holds when the request does not say.
	defaultDevboxHold = 10 * time.Second
	// ping keeps event streams alive.
	ping = 10 * time.Second
	// shutdownWait bounds how long Close waits for requests to end by themselves.
	shutdownWait = 2 * time.Second
	// bootWait bounds the making of a devbox's namespaces.
	bootWait = 60 * time.Second
	// headerWait bounds how long a client may take to send its headers.
	headerWait = 30 * time.Second
)

func (c Config) withDefaults() (Config, error) {
	if c.Delay < 0 {
		return c, rterr.Invalid("configure the emulator", "delay", "is negative: %s", c.Delay)
	}
	if err := c.Faults.validate(); err != nil {
		return c, err
	}
	for _, d := range []struct {
		value *string
		deft  string
	}{{&c.Listen, "127.0.0.1:0"}, {&c.TunnelListen, "127.0.0.1:0"}, {&c.Key, DefaultKey}} {
		if *d.value == "" {
			*d.value = d.deft
		}
	}
	for _, d := range []struct {
		value *time.Duration
		deft  time.Duration
	}{{&c.Holds.Devbox, 30 * time.Second}, {&c.Holds.Execution, 25 * time.Second}, {&c.Holds.Stream, 30 * time.Second}} {
		if *d.value <= 0 {
			*d.value = d.deft
		}
	}
	if c.Log == nil {
		c.Log = hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	}
	return c, nil
}
