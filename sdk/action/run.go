package action

import (
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Run is the payload of a run action: a command for the sandbox's one persistent shell (openhands-v0 2.2).
// Unknown fields are ignored: OpenHands adds some with every version.
type Run struct {
	Command string `json:"command"`
	// IsInput sends Command as input to what runs in the shell instead of running it.
	IsInput bool `json:"is_input,omitempty"`
	// Blocking ignores the no-change timeout.
	Blocking bool `json:"blocking,omitempty"`
	// IsStatic runs it in a fresh shell in Cwd, once.
	IsStatic bool   `json:"is_static,omitempty"`
	Cwd      string `json:"cwd,omitempty"`
	// Hidden: the content is not cut.
	Hidden bool `json:"hidden,omitempty"`
}

// DecodeRun reads the payload of a run action. Errors name the field.
func DecodeRun(payload []byte) (*Run, error) {
	var wire struct {
		Run
		Command *string `json:"command"`
		Cwd     *string `json:"cwd"`
	}
	if err := decode(payload, &wire, true); err != nil {
		return nil, err
	}
	if wire.Command == nil {
		return nil, rterr.Invalid("", "action.payload.command", "is required")
	}
	r := wire.Run
	r.Command = *wire.Command
	if wire.Cwd != nil {
		r.Cwd = *wire.Cwd
	}
	if len(r.Command) > MaxCommand {
		return nil, rterr.Invalid("", "action.payload.command", "has %d bytes, at most %d are taken", len(r.Command), MaxCommand)
	}
	return &r, nil
}

// RunObservation is the observation payload of a run action, in OpenHands' shape (openhands-v0 2.3, 2.4).
type RunObservation struct {
	// Observation is "run".
	Observation string `json:"observation"`
	Message     string `json:"message"`
	// Content is the output as text: line ends normalised, invalid UTF-8 replaced, cut in the middle to 30,000 characters
	// unless hidden. The bytes are in the PTY channel.
	Content string    `json:"content"`
	Extras  RunExtras `json:"extras"`
	Success bool      `json:"success"`
}

// RunExtras are the extras of a run observation.
type RunExtras struct {
	Command  string      `json:"command"`
	Metadata RunMetadata `json:"metadata"`
	Hidden   bool        `json:"hidden"`
}

// RunMetadata is what the prompt hook reported.
type RunMetadata struct {
	// ExitCode is -1 while it is not known.
	ExitCode int `json:"exit_code"`
	// Pid is that of the shell's last background job, -1 if none.
	Pid        int    `json:"pid"`
	Username   string `json:"username"`
	Hostname   string `json:"hostname"`
	WorkingDir string `json:"working_dir"`
	// PyInterpreterPath is null where there is no python.
	PyInterpreterPath *string `json:"py_interpreter_path"`
	Prefix            string  `json:"prefix"`
	Suffix            string  `json:"suffix"`
}
