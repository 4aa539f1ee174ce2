package emulator

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/openhands-rt/openhands-rt/plugins/runloop/emulator/internal/box"
)

// maxLogs is how many entries a devbox keeps; the oldest go first.
const maxLogs = 20000

// logEntry is one line of a devbox's log.
type logEntry struct {
	Level       string  `json:"level"`
	Source      string  `json:"source"`
	TimestampMs int64   `json:"timestamp_ms"`
	Cmd         *string `json:"cmd"`
	CmdID       *string `json:"cmd_id"`
	ExitCode    *int    `json:"exit_code"`
	Message     *string `json:"message"`
	ShellName   *string `json:"shell_name"`
}

// logbook is the log of a devbox. It has a lock of its own.
type logbook struct {
	mu      sync.Mutex
	entries []logEntry
	dropped int
	changed chan struct{}
}

func newLogbook() *logbook { return &logbook{changed: make(chan struct{})} }

func (l *logbook) add(entry logEntry) {
	entry.TimestampMs = nowMs()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry)
	if over := len(l.entries) - maxLogs; over > 0 {
		l.entries = slices.Delete(l.entries, 0, over)
		l.dropped += over
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// from returns the entries from a position on, the position after them, and what is closed when there are more.
func (l *logbook) from(position int) ([]logEntry, int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := min(max(position-l.dropped, 0), len(l.entries))
	return slices.Clone(l.entries[start:]), l.dropped + len(l.entries), l.changed
}

// matching returns the entries of an execution and a shell; empty: of all.
func matching(entries []logEntry, execution, shell string) []logEntry {
	return slices.DeleteFunc(entries, func(e logEntry) bool {
		return execution != "" && (e.CmdID == nil || *e.CmdID != execution) || shell != "" && (e.ShellName == nil || *e.ShellName != shell)
	})
}

// follow puts what a command writes into the log, line by line, as long as ctx.
func (l *logbook) follow(ctx context.Context, out *box.Output, like logEntry) {
	var at int64
	var rest string
	for {
		chunk, more, err := out.Next(ctx, at)
		if err != nil {
			return
		}
		at += int64(len(chunk))
		rest += string(chunk)
		for {
			line, after, whole := strings.Cut(rest, "\n")
			if !whole {
				break
			}
			l.line(like, line)
			rest = after
		}
		if !more {
			if rest != "" {
				l.line(like, rest)
			}
			return
		}
	}
}

func (l *logbook) line(like logEntry, line string) {
	like.Message = &line
	l.add(like)
}

func text(s string) *string { return &s }
