package main

import (
	"bytes"
	"fmt"
	"strings"
)

const commandsHead = `# The command line

Made from the commands' own help by ` + "`scripts/generate`" + `. The flags under "Global Flags" belong to every command and are shown once.
`

// ask runs openhands-rt with arguments and returns what it prints.
type ask func(args ...string) (string, error)

// skipped commands are cobra's own.
var skipped = map[string]bool{"help": true, "completion": true} //nolint:gochecknoglobals // never written

// writeCommands walks the tree of commands through their help and the names that the shell completion offers.
func writeCommands(run ask) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(commandsHead)
	if err := writeCommand(&b, run, nil); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeCommand(b *bytes.Buffer, run ask, path []string) error {
	help, err := run(append(path[:len(path):len(path)], "--help")...)
	if err != nil {
		return fmt.Errorf("openhands-rt %s --help: %w", strings.Join(path, " "), err)
	}
	title := strings.Join(append([]string{"openhands-rt"}, path...), " ")
	fmt.Fprintf(b, "\n## %s\n\n```\n%s\n```\n", title, body(help, len(path) == 0))
	if !strings.Contains(help, "[command]") {
		return nil
	}
	children, err := subcommands(run, path)
	if err != nil {
		return err
	}
	for _, name := range children {
		if err := writeCommand(b, run, append(path[:len(path):len(path)], name)); err != nil {
			return err
		}
	}
	return nil
}

// body is the help without the global flags, which the first command has shown.
func body(help string, first bool) string {
	if !first {
		help, _, _ = strings.Cut(help, "\nGlobal Flags:\n")
	}
	return strings.TrimSpace(help)
}

// subcommands asks the completion: one "NAME<tab>description" per line, then directives that begin with a colon.
func subcommands(run ask, path []string) ([]string, error) {
	args := append([]string{"__complete"}, path...)
	out, err := run(append(args, "")...)
	if err != nil {
		return nil, fmt.Errorf("complete %s: %w", strings.Join(path, " "), err)
	}
	var names []string
	for line := range strings.Lines(out) {
		name, _, described := strings.Cut(strings.TrimSpace(line), "\t")
		if described && !strings.HasPrefix(name, ":") && !strings.HasPrefix(name, "-") && !skipped[name] {
			names = append(names, name)
		}
	}
	return names, nil
}
