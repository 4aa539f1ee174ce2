package engine

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// plainCommands is how many commands are run in our shell and in a plain bash, in sessions of plainSession.
const (
	plainCommands = 500
	plainSession  = 25
	plainSeed     = 20251128
)

// TestRunAgainstPlainBash runs the same commands here and in an interactive bash that reads them from a script, each in a session that
// goes on: output, exit code, working directory and environment after each must be equal.
func TestRunAgainstPlainBash(t *testing.T) {
	rnd := rand.New(rand.NewSource(plainSeed))
	for n := range plainCommands / plainSession {
		commands := make([]string, plainSession)
		for i := range commands {
			commands[i] = plainCommand(rnd)
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l := newLab(t)
			want := plainBash(t, l.cfg, commands)
			for i, command := range commands {
				s := l.sh(command)
				got := plainResult{output: s.run.Content, exit: s.run.Extras.Metadata.ExitCode, dir: s.run.Extras.Metadata.WorkingDir,
					env: l.sh("env | grep -v ^_= | sort").run.Content}
				// The look at the environment must not change what the next command sees.
				l.sh(fmt.Sprintf("(exit %d)", got.exit))
				if got.env = strings.ReplaceAll(got.env, l.cfg.Workspace, "W"); got != want[i] {
					t.Fatalf("%d, %q:\n got %+v\nwant %+v\nafter %q", i, command, got, want[i], commands[:i])
				}
			}
		})
	}
}

type plainResult struct {
	output, dir, env string
	exit             int
}

// plainBash runs commands one by one by eval in one bash on a terminal, each with its output in a file.
func plainBash(t *testing.T, cfg Config, commands []string) []plainResult {
	t.Helper()
	dir, out := t.TempDir(), t.TempDir()
	var script strings.Builder
	script.WriteString("__o=" + out + " __r=0\n__s() { return $__r; }\n")
	for i, c := range commands {
		file := filepath.Join(out, fmt.Sprint(i))
		if err := os.WriteFile(file+".sh", []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		// As ours: a command sees the status of the one before.
		fmt.Fprintf(&script, "__t=$(<$__o/%[1]d.sh)\n__s\n{ eval \"$__t\"; } >$__o/%[1]d.out 2>&1\n__r=$?; pwd >$__o/%[1]d.pwd; echo $__r >$__o/%[1]d.exit; "+
			"env | grep -v ^_= | sort >$__o/%[1]d.env\n", i)
	}
	cmd := exec.CommandContext(context.Background(), "bash", "--norc", "--noediting", "-i", "-c", script.String())
	cmd.Dir, cmd.Env = dir, slices.Clone(cfg.Env)
	for i, kv := range cmd.Env {
		cmd.Env[i] = strings.ReplaceAll(kv, cfg.Workspace, dir)
	}
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := cmd.Wait(); err != nil {
		t.Log(err) // The last command's status.
	}
	all := make([]plainResult, len(commands))
	for i := range commands {
		read := func(what string) string {
			raw, err := os.ReadFile(filepath.Join(out, fmt.Sprint(i)+what))
			if err != nil {
				t.Fatalf("plain bash did not get to command %d, %q: %v", i, commands[i], err)
			}
			return strings.ReplaceAll(strings.TrimSpace(clean(raw)), dir, "W")
		}
		all[i] = plainResult{output: read(".out"), dir: strings.ReplaceAll(read(".pwd"), "W", cfg.Workspace), env: read(".env")}
		all[i].output = strings.ReplaceAll(all[i].output, "W", cfg.Workspace)
		if _, err := fmt.Sscan(read(".exit"), &all[i].exit); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// plainCommand makes a command that does the same every time.
func plainCommand(rnd *rand.Rand) string {
	pick := func(all ...string) string { return all[rnd.Intn(len(all))] }
	word := func() string {
		return pick("a", "bb", "'c d'", `"e $X"`, "$X", "${Y:-none}", "$((3*4))", "$(echo sub)", "*.txt", "é", `\$`, "~", "{1..3}")
	}
	name := func() string { return pick("X", "Y", "Z") }
	simple := func() string {
		switch rnd.Intn(22) {
		case 0, 1, 2:
			return "echo " + word() + " " + word()
		case 3:
			return "export " + name() + "=" + word()
		case 4:
			return name() + "=" + word()
		case 5:
			return "unset " + name()
		case 6:
			return "mkdir -p d" + fmt.Sprint(rnd.Intn(4))
		case 7:
			return "cd d" + fmt.Sprint(rnd.Intn(4))
		case 8:
			return `[ "$PWD" = ~ ] || cd ..`
		case 9:
			return "cd"
		case 10:
			return fmt.Sprintf("(exit %d)", rnd.Intn(256))
		case 11:
			return pick("true", "false", "! true", "! false", ":")
		case 12:
			return "printf '%s\\n' " + word() + " " + word()
		case 13:
			return "echo " + word() + " >f" + fmt.Sprint(rnd.Intn(3)) + ".txt"
		case 14:
			return "cat f" + fmt.Sprint(rnd.Intn(3)) + ".txt"
		case 15:
			return "ls -1"
		case 16:
			return "test -d d" + fmt.Sprint(rnd.Intn(4))
		case 17:
			return "f" + fmt.Sprint(rnd.Intn(3)) + "() { echo in $1; return " + fmt.Sprint(rnd.Intn(9)) + "; }"
		case 18:
			return "type -t f" + fmt.Sprint(rnd.Intn(3)) + " && f" + fmt.Sprint(rnd.Intn(3)) + " " + word()
		case 19:
			return "echo $?"
		case 20:
			return "nosuch" + fmt.Sprint(rnd.Intn(3)) + " 2>/dev/null"
		default:
			return "arr=(" + word() + " " + word() + "); echo ${#arr[@]} \"${arr[1]}\""
		}
	}
	a, b := simple(), simple()
	switch rnd.Intn(14) {
	case 0:
		return a + "; " + b
	case 1:
		return a + " && " + b
	case 2:
		return a + " || " + b
	case 3:
		return "{ " + a + "; } | sort"
	case 4:
		return "for i in 1 2 3; do " + a + "; done"
	case 5:
		return "if " + a + "; then " + b + "; else echo else; fi"
	case 6:
		return "( " + a + "; " + b + " )"
	case 7:
		return "cat <<E\n$X ${Y:-y} $(echo s)\n  indented\nE"
	case 8:
		return "v=$(" + a + "); echo \"[$v]\""
	case 9:
		return "case " + word() + " in a) " + a + ";; *) " + b + ";; esac"
	case 10:
		return "n=0; while [ $n -lt 2 ]; do " + a + "; n=$((n+1)); done"
	}
	return a
}
