// Package editor does the actions that read, write and edit files of the sandbox, with the rules and the words of OpenHands'
// (openhands-v0 2.7 to 2.9): agents have learnt to read them.
//
// Where the original loses data it does the better thing: a file is never cut off before what is to be written is known to fit; modes,
// owners and links are kept by every command; the history of edits outlives the process. What is no regular file, and what is larger
// than 10 MB, is refused before it is read.
//
// sdk/agent/boot gives its kinds to the engine.
package editor

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/openhands-rt/openhands-rt/sdk/agent/space"
)

// The bounds of this package. Those of the original are part of what agents see.
const (
	// maxFile is the largest file that is read, in bytes.
	maxFile = 10 << 20
	// maxResponse is how many characters of a file or folder are shown, snippetContext how many lines around an edit.
	maxResponse    = 16_000
	snippetContext = 4
	// maxObservation is the largest payload that fits into a message of the agent's protocol with all that is around it.
	maxObservation = 7 << 20
)

// Config is what an editor needs.
type Config struct {
	// Space resolves the paths. The editor closes it.
	Space *space.Space
	// Workspace is the folder that is suggested to those who forget the beginning of a path; absolute.
	Workspace string
	// StateDir is a private folder for the history of edits; made if need be.
	StateDir string
	// Logger may be nil.
	Logger hclog.Logger
}

// Editor edits files. Its methods may be called from any goroutine; one action is done at a time, in the order of arrival.
type Editor struct {
	files     files
	workspace string
	history   *history
	log       hclog.Logger
	turn      chan struct{}
	close     func() error
}

// New returns an editor with the history that an earlier one has left. Errors: what keeps StateDir from being made or read; the space
// is the caller's still, then.
func New(cfg Config) (*Editor, error) {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	h, err := openHistory(cfg.StateDir, historyBytes)
	if err != nil {
		return nil, err
	}
	return &Editor{files: files{cfg.Space}, workspace: cfg.Workspace, history: h, log: cfg.Logger, turn: make(chan struct{}, 1),
		close: sync.OnceValue(cfg.Space.Close)}, nil
}

// Close releases the space. Actions must have ended. The engine calls it, by the kinds; a second call does nothing.
func (e *Editor) Close() error { return e.close() }

// take waits for the turn of an action; the returned function gives it back.
func (e *Editor) take(ctx context.Context) (func(), error) {
	select {
	case e.turn <- struct{}{}:
		return func() { <-e.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// command is one call of the editor.
type command struct {
	name, path               string
	fileText, oldStr, newStr *string
	insertLine               *int
	// lines is nil for the whole file. Not what it should be: lines is nil and badLines says what it was.
	lines    *[2]int
	badLines string
}

// edited is what a command has done: what it says, and the texts to tell the difference of.
type edited struct {
	output        string
	before, after string
}

// allowed are the commands, in the order in which they are listed to those who ask for another one.
func allowed() []string { return []string{"view", "create", "str_replace", "insert", "undo_edit"} }

// run does a command. A refusal is an error whose text is the answer.
func (e *Editor) run(ctx context.Context, c command) (edited, error) {
	c.path = pythonPath(c.path)
	at, err := e.check(c)
	if err != nil {
		return edited{}, err
	}
	switch c.name {
	case "view":
		return e.view(ctx, c, at)
	case "create":
		return e.create(c)
	case "str_replace":
		return e.replace(c)
	case "insert":
		return e.insert(c)
	case "undo_edit":
		return e.undo(c)
	}
	return edited{}, refusal("Unrecognized command " + c.name + ". The allowed commands for the oh_editor tool are: " +
		strings.Join(allowed(), ", "))
}

// refusal is why a command is not done, in the words that the agent reads.
type refusal string

// Error returns the words.
func (r refusal) Error() string { return string(r) }

func missing(parameter, command string) error {
	return refusal("Parameter `" + parameter + "` is required for command: " + command + ".")
}

func invalid(parameter, value, hint string) error {
	return refusal("Invalid `" + parameter + "` parameter: " + value + ". " + hint)
}

func unfit(path, reason string) error {
	return refusal("File validation failed for " + path + ": " + reason)
}

// converted reports whether a file is shown as Markdown and cannot be edited, by its suffix.
func converted(path string) bool {
	return slices.Contains([]string{".docx", ".xlsx", ".pptx", ".pdf", ".mp3", ".wav", ".m4a", ".flac"}, strings.ToLower(suffix(path)))
}
