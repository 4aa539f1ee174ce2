// Package logging makes the host's logger: hclog, with a level for each component, as JSON or for people, to standard error or to
// a file that is rotated.
//
// Components are logger names, joined by dots as hclog joins them: "plugin", "plugin.local". A component's level is that of the
// longest configured name which is it or a parent of it.
//
// Secrets are kept out of log lines where they are written; what slips through under a telling name is masked here, on the way
// out. Only the composition root imports this package; everybody else is handed an hclog.Logger.
package logging

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The formats of Config.Format.
const (
	FormatConsole = "console"
	FormatJSON    = "json"
)

// Config says what is logged, and where to.
type Config struct {
	// Level of everything that Levels does not name: "trace", "debug", "info", "warn", "error" or "off"; empty means "info".
	Level string
	// Levels by component.
	Levels map[string]string
	// Format is FormatConsole or FormatJSON; empty means console.
	Format string
	// File is written instead of Output, made with mode 0600, and rotated.
	File string
	// MaxSizeMB is the size at which the file is rotated, MaxBackups how many old files are kept, MaxAgeDays for how long. Zero
	// means 100 MB, 5 files, and no limit of age.
	MaxSizeMB, MaxBackups, MaxAgeDays int
	// Output is used where there is no File; nil means standard error.
	Output io.Writer
}

// New returns the root logger, without a name. Closing the closer closes the file; the logger must not be used after that. The
// error is ConfigInvalid with the offending field ("log.levels.plugin").
func New(config Config) (hclog.Logger, io.Closer, error) {
	levels, err := parseLevels(config)
	if err != nil {
		return nil, nil, err
	}
	json, err := isJSON(config.Format)
	if err != nil {
		return nil, nil, err
	}
	out, closer, err := open(config)
	if err != nil {
		return nil, nil, err
	}
	logger := hclog.New(&hclog.LoggerOptions{
		Level:             levels.of(""),
		Output:            &masker{to: out},
		JSONFormat:        json,
		IndependentLevels: true,
		SubloggerHook: func(sub hclog.Logger) hclog.Logger {
			sub.SetLevel(levels.of(sub.Name()))
			return sub
		},
	})
	return logger, closer, nil
}

func isJSON(format string) (bool, error) {
	switch format {
	case "", FormatConsole:
		return false, nil
	case FormatJSON:
		return true, nil
	default:
		return false, invalid("log.format", "%q is neither %q nor %q", format, FormatConsole, FormatJSON)
	}
}

func invalid(field, detail string, args ...any) error {
	return rterr.New(rterr.ConfigInvalid, "set up logging", detail, args...).WithField(field)
}

// levels is the level of each configured component; "" is the rest.
type levels map[string]hclog.Level

func parseLevels(config Config) (levels, error) {
	root, err := parseLevel("log.level", config.Level)
	if err != nil {
		return nil, err
	}
	all := levels{"": root}
	for name, text := range config.Levels {
		field := "log.levels." + name
		if name == "" || slices.Contains(strings.Split(name, "."), "") {
			return nil, invalid(field, "%q is no component", name)
		}
		if all[name], err = parseLevel(field, text); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func parseLevel(field, text string) (hclog.Level, error) {
	if text == "" {
		return hclog.Info, nil
	}
	level := hclog.LevelFromString(text)
	if level == hclog.NoLevel {
		return level, invalid(field, "%q is no level: want trace, debug, info, warn, error or off", text)
	}
	return level, nil
}

func (l levels) of(name string) hclog.Level {
	for name != "" {
		if level, ok := l[name]; ok {
			return level
		}
		name = name[:max(strings.LastIndexByte(name, '.'), 0)]
	}
	return l[""]
}

func open(config Config) (io.Writer, io.Closer, error) {
	if config.File == "" {
		if config.Output == nil {
			return os.Stderr, nothing{}, nil
		}
		return config.Output, nothing{}, nil
	}
	if config.MaxSizeMB < 0 || config.MaxBackups < 0 || config.MaxAgeDays < 0 {
		return nil, nil, invalid("log.file", "sizes, numbers and ages are not negative")
	}
	if err := os.MkdirAll(filepath.Dir(config.File), 0o700); err != nil {
		return nil, nil, invalid("log.file", "%v", err)
	}
	// The rotating writer opens the file with the first line; what is wrong with it should be known now.
	probe, err := os.OpenFile(config.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, invalid("log.file", "%v", err)
	}
	if err := probe.Close(); err != nil {
		return nil, nil, invalid("log.file", "%v", err)
	}
	backups := config.MaxBackups
	if backups == 0 {
		backups = defaultBackups
	}
	file := &lumberjack.Logger{Filename: config.File, MaxSize: config.MaxSizeMB, MaxBackups: backups, MaxAge: config.MaxAgeDays}
	return file, file, nil
}

const defaultBackups = 5

// nothing is the closer of an output that is not ours.
type nothing struct{}

// Close does nothing.
func (nothing) Close() error { return nil }
