package action

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func durationOf(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// Process is the payload of a process action: one program, its own stdin, stdout and stderr, byte-exact.
type Process struct {
	// Argv is the program and its arguments, at least one; looked up in PATH if it has no slash. No shell is involved.
	Argv []string `json:"argv"`
	// Cwd is the working directory, absolute or relative to the workspace; empty means the workspace.
	Cwd string `json:"cwd,omitempty"`
	// Env is added to the sandbox's environment.
	Env map[string]string `json:"env,omitempty"`
	// TTY gives the program a terminal: one channel (PTY), stdin always open.
	TTY *TTY `json:"tty,omitempty"`
	// Stdin: its input is a pipe fed by Input. Otherwise it reads /dev/null.
	Stdin bool `json:"stdin,omitempty"`
}

// TTY is the terminal of a process.
type TTY struct {
	// Rows and Cols, 1 to 65535; zero means 24 and 80.
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
	// Term is the value of TERM; empty means xterm-256color.
	Term string `json:"term,omitempty"`
}

// DecodeProcess reads the payload of a process action. Errors name the field.
func DecodeProcess(payload []byte) (*Process, error) {
	p := &Process{}
	if err := decode(payload, p, false); err != nil {
		return nil, err
	}
	if len(p.Argv) == 0 || p.Argv[0] == "" {
		return nil, rterr.Invalid("", "action.payload.argv", "needs at least the program's name")
	}
	for _, a := range p.Argv {
		if strings.ContainsRune(a, 0) {
			return nil, rterr.Invalid("", "action.payload.argv", "has a NUL byte")
		}
	}
	if strings.ContainsRune(p.Cwd, 0) {
		return nil, rterr.Invalid("", "action.payload.cwd", "has a NUL byte")
	}
	if err := CheckEnv(p.Env); err != nil {
		return nil, err
	}
	return p, nil
}

// CheckEnv refuses names and values that no environment can hold.
func CheckEnv(env map[string]string) error {
	for k, v := range env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return rterr.Invalid("", "action.payload.env", "has an impossible entry %q", k)
		}
	}
	return nil
}

// ProcessObservation is the observation payload of a process action. The output is in the channels.
type ProcessObservation struct {
	// Observation is "process".
	Observation string `json:"observation"`
	// ExitCode is null when a signal ended it.
	ExitCode *int `json:"exit_code"`
	// Signal is the name of the signal that ended it ("SIGKILL"), else empty.
	Signal string `json:"signal,omitempty"`
	Pid    int    `json:"pid"`
	// TimedOut: its hard timeout ended it.
	TimedOut bool `json:"timed_out,omitempty"`
	// DurationMS from start to end, in milliseconds.
	DurationMS float64 `json:"duration_ms"`
}
