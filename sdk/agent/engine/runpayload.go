package engine

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	severalHead    = "ERROR: Cannot execute multiple commands at once.\nPlease run each command separately OR chain them into a " +
		"single command via && or ;\nProvided commands:"
	// shellEnded follows the usual suffix; OpenHands has no word for it, its shell does not survive.
	shellEnded = "\n[The shell has ended with this command. The next command gets a new shell in the same directory.]"
)

// suffixCompleted is for a command, or for a special key.
func suffixCompleted(code int, command string) string {
	s := "\n[The command completed with exit code " + strconv.Itoa(code) + "."
	if isKey(command) {
		s += " CTRL+" + strings.ToUpper(command[2:]) + " was sent."
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

func prefixTruncated(lines int) string {
	return "[Previous command outputs are truncated. Showing the last " + strconv.Itoa(lines) + " lines of the output below.]\n"
}

// several is what an agent is told that has sent more than one command.
func several(commands []string) string {
	var b strings.Builder
	b.WriteString(severalHead)
	for i, c := range commands {
		b.WriteString("\n(" + strconv.Itoa(i+1) + ") " + c)
	}
	return b.String()
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
	r.Command = strings.TrimFunc(r.Command, pythonSpace)
	return r, nil
}

// pythonSpace is what Python's str.strip takes off.
func pythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// isKey reports whether a command is one of OpenHands' special keys: C- and one more character, whatever it is.
func isKey(command string) bool {
	return strings.HasPrefix(command, "C-") && utf8.RuneCountInString(command) == len("C-x")
}

// keyBytes is what a terminal sends for a special key: the control character where there is one, else the key itself.
func keyBytes(key string) []byte {
	c := key[2]
	switch {
	case len(key) > len("C-x"):
		return []byte(key[2:])
	case c >= '@' && c <= '_' || c >= 'a' && c <= 'z':
		return []byte{c & 0x1f}
	case c == '?' || c == '8':
		return []byte{0x7f}
	case c == '2':
		return []byte{0}
	case c >= '3' && c <= '7':
		return []byte{c - '3' + 0x1b}
	}
	return []byte{c}
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

// runPayload is the JSON of a run observation. OpenHands says of a hidden action that it is hidden when its command has completed or
// was not executed, not when it goes on, and not when nothing was there to do.
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
