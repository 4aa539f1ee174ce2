package engine

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/agent/engine/shell"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The words of OpenHands' run observation, which agents have learnt to read; they must not be changed.
const (
	hintTimeout = "You may wait longer to see additional output by sending empty command '', send other commands to interact " +
		"with the current process, send keys (\"C-c\", \"C-z\", \"C-d\") to interrupt/kill the previous command before sending " +
		"your new command, or use the timeout parameter in execute_bash for future commands."
	prefixPrevious = "[Below is the output of the previous command.]\n"
	nothingToRead  = "ERROR: No previous running command to retrieve logs from."
	nothingToWrite = "ERROR: No previous running command to interact with."
	truncated      = "\n[... Observation truncated due to length ...]\n"
	// shellEnded follows the usual suffix; OpenHands has no word for it, its shell does not survive.
	shellEnded = "\n[The shell has ended with this command. The next command gets a new shell in the same directory.]"
)

func suffixCompleted(code int, key byte) string {
	s := "\n[The command completed with exit code " + strconv.Itoa(code) + "."
	if key != 0 {
		s += " CTRL+" + strings.ToUpper(string(key)) + " was sent."
	}
	return s + "]"
}

func suffixHard(d time.Duration) string {
	return "\n[The command timed out after " + pythonFloat(d.Seconds()) + " seconds. " + hintTimeout + "]"
}

func suffixSoft(d time.Duration) string {
	return "\n[The command has no new output after " + strconv.Itoa(int(d.Seconds())) + " seconds. " + hintTimeout + "]"
}

func suffixNotExecuted(command string) string {
	return "\n[Your command \"" + command + "\" is NOT executed. The previous command is still running - You CANNOT send new " +
		"commands until the previous command is completed. By setting `is_input` to `true`, you can interact with the current " +
		"process: " + hintTimeout + "]"
}

// pythonFloat prints a number of seconds as Python's str does: 1.0, 2.5, 1e-05.
func pythonFloat(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.Contains(s, "e") {
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	if f >= 1e-4 && f < 1e16 {
		s = strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
	}
	return s
}

// decodeRun reads a payload and refuses what no shell can take.
func decodeRun(payload []byte) (*action.Run, error) {
	r, err := action.DecodeRun(payload)
	if err != nil {
		return nil, err
	}
	if strings.ContainsRune(r.Command, 0) {
		return nil, rterr.Invalid("", "action.payload.command", "has a NUL byte")
	}
	if strings.ContainsRune(r.Cwd, 0) {
		return nil, rterr.Invalid("", "action.payload.cwd", "has a NUL byte")
	}
	r.Command = strings.TrimSpace(r.Command)
	return r, nil
}

// specialKey returns the control character of a command of the exact form C-x, 0 for any other.
func specialKey(command string) byte {
	if len(command) != 3 || command[:2] != "C-" {
		return 0
	}
	c := command[2] | 0x20
	if c < 'a' || c > 'z' {
		return 0
	}
	return c & 0x1f
}

// unknown is the metadata of a command whose end is not known.
func unknown() action.RunMetadata { return action.RunMetadata{ExitCode: -1, Pid: -1} }

// metadataOf is what the prompt hook said.
func metadataOf(r shell.Report) action.RunMetadata {
	m := action.RunMetadata{ExitCode: r.Status, Pid: r.Pid, Username: r.User, Hostname: r.Host, WorkingDir: r.Cwd}
	if r.Python != "" {
		python := r.Python
		m.PyInterpreterPath = &python
	}
	return m
}

// runPayload is the JSON of a run observation.
func runPayload(run *action.Run, content string, m action.RunMetadata) []byte {
	obs := action.RunObservation{Observation: action.KindRun, Content: content, Success: m.ExitCode == 0,
		Message: "Command `" + run.Command + "` executed with exit code " + strconv.Itoa(m.ExitCode) + ".",
		Extras:  action.RunExtras{Command: run.Command, Metadata: m, Hidden: run.Hidden}}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(obs) // A struct of plain fields; invalid UTF-8 is replaced.
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
