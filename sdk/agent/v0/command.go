package v0

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/mattn/go-shellwords"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// ServerModule is the module that a /start command of OpenHands V0 names.
const ServerModule = "openhands.runtime.action_execution_server"

// maxCommandWords bounds a command.
const maxCommandWords = 1024

// Command is what a command that would start the original's server asks for.
type Command struct {
	// Words are the whole command.
	Words []string
	// Module is the word after "-m", empty if there is none. The rest is read from what follows it, else from all words.
	Module string
	// Port is 0 if none is named.
	Port int
	// WorkingDir is empty if none is named.
	WorkingDir string
	// Plugins are what OpenHands calls so: jupyter, agent_skills, vscode, or any other name.
	Plugins []string
	// Username is "openhands" and UserID 1000 if none is named.
	Username string
	UserID   int
	// Browser is true unless it was declined.
	Browser bool
	// EvalEnv is the browser's evaluation environment, empty if there is none.
	EvalEnv string
	// Unknown are the words that mean nothing here.
	Unknown []string
}

// ActionServer reports whether the command names the original's action execution server.
func (c Command) ActionServer() bool { return c.Module == ServerModule }

// ParseCommand reads a command as JSON has it: a list of words, one string as for a shell, or null. Nothing is executed or expanded.
// Flags that are not known are kept and otherwise ignored; a port or user id that is no number is InvalidArgument (command).
func ParseCommand(raw []byte) (Command, error) {
	var words []string
	var line string
	switch err := json.Unmarshal(raw, &words); {
	case err == nil:
		return ParseWords(words)
	case json.Unmarshal(raw, &line) != nil:
		return Command{}, rterr.Invalid("", "command", "must be a list of strings or a string")
	}
	words, err := split(line)
	if err != nil {
		return Command{}, rterr.Invalid("", "command", "cannot be split into words: %v", err)
	}
	return ParseWords(words)
}

// split makes words of a line as a shell does. What stands between commands is left out.
func split(line string) ([]string, error) {
	var all []string
	p := shellwords.NewParser()
	for {
		words, err := p.Parse(line)
		all = append(all, words...)
		if err != nil || p.Position < 0 || len(all) > maxCommandWords {
			return all, err
		}
		line = strings.TrimLeft(line[p.Position:], ";&|<>() ")
	}
}

// ParseWords is ParseCommand for words.
func ParseWords(words []string) (Command, error) {
	if len(words) > maxCommandWords {
		return Command{}, rterr.Invalid("", "command", "has %d words, at most %d are read", len(words), maxCommandWords)
	}
	c := Command{Words: words, Username: "openhands", UserID: 1000, Browser: true}
	rest := words
	if i := slices.Index(words, "-m"); i >= 0 && i+1 < len(words) {
		c.Module, rest = words[i+1], words[i+2:]
	}
	for len(rest) > 0 {
		name, values := rest[0], []string(nil)
		rest = rest[1:]
		if flag, value, ok := strings.Cut(name, "="); ok && isFlag(flag) {
			name, values = flag, []string{value}
		} else if isFlag(name) {
			n := slices.IndexFunc(rest, isFlag)
			if n < 0 {
				n = len(rest)
			}
			values, rest = rest[:n], rest[n:]
		}
		extra, err := c.set(name, values)
		if err != nil {
			return Command{}, err
		}
		c.Unknown = append(c.Unknown, extra...)
	}
	return c, nil
}

func isFlag(word string) bool { return strings.HasPrefix(word, "--") && len(word) > 2 }

// set takes one word, or one flag and the words that follow it, and returns what of them it has no use for. A port may stand
// anywhere.
func (c *Command) set(name string, values []string) (extra []string, err error) {
	switch name {
	case "--plugins":
		c.Plugins = append(c.Plugins, values...)
		return nil, nil
	case "--browsergym-eval-env":
		c.EvalEnv = strings.Join(values, " ")
		return nil, nil
	case "--enable-browser", "--no-enable-browser":
		c.Browser = name == "--enable-browser"
		return c.positional(values)
	}
	if !isFlag(name) {
		return c.positional([]string{name})
	}
	to := map[string]any{"--working-dir": &c.WorkingDir, "--username": &c.Username, "--user-id": &c.UserID, "--port": &c.Port}[name]
	if to == nil || len(values) == 0 {
		return append([]string{name}, values...), nil
	}
	if text, ok := to.(*string); ok {
		*text = values[0]
	} else if err := number(to.(*int), name, values[0]); err != nil {
		return nil, err
	}
	return c.positional(values[1:])
}

func number(to *int, name, text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return rterr.Invalid("", "command", "%s %q is no number", name, clip(text))
	}
	*to = n
	return nil
}

// positional takes the port.
func (c *Command) positional(words []string) (extra []string, err error) {
	for i, word := range words {
		if n, err := strconv.Atoi(word); err == nil && n > 0 && n < 1<<16 && c.Port == 0 {
			c.Port = n
			return slices.Concat(words[:i], words[i+1:]), nil
		}
	}
	return words, nil
}
