package box

import (
	_ "embed"
	"regexp"
)

//go:embed shell.sh
var shellScript string

// Shell returns the arguments that run a command line by bash in the user's home; with a name, in the state that the last command of
// that name left: folder, variables, functions and options. One command of a name may run at a time.
func (b *Box) Shell(name, command string) []string {
	if name == "" {
		return []string{"/bin/bash", "-c", `cd -- "$HOME" 2>/dev/null || cd /; eval "$1"`, "bash", command}
	}
	return []string{"/bin/bash", "-c", shellScript, "bash", command, "/run/devbox/shells/" + fileName(name)}
}

// fileName makes a shell's name one that a folder takes, and no two names the same.
func fileName(name string) string {
	return regexp.MustCompile(`[^A-Za-z0-9-]`).ReplaceAllStringFunc(name, func(c string) string {
		out := "_"
		for i := range len(c) {
			const digits = "0123456789abcdef"
			out += string(digits[c[i]>>4]) + string(digits[c[i]&15])
		}
		return out
	})
}
