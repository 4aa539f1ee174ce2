package service

import (
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// Where things lie in a devbox, below the home folder of its user.
const (
	folder    = ".openhands-rt"
	agentName = "openhands-rt-agent"
	leaseFile = folder + "/run/lease"
)

// quote makes one word for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// guardScript is the devbox's main program: it ends, and the devbox with it, when the lease that this plugin writes has run out, or
// when the operator's own entrypoint ends. A lease of an earlier start does not count: whoever wakes the devbox writes a new one.
func guardScript(entrypoint string) string {
	own := ""
	watch := ""
	if entrypoint != "" {
		own = "( " + entrypoint + "\n) & own=$!\n"
		watch = "  kill -0 $own 2>/dev/null || exit 0\n"
	}
	return `d="$HOME/` + folder + `/run"; umask 077; mkdir -p "$d"; : >"$d/boot"
` + own + `while :; do
` + watch + `  sleep 1
  [ "$d/lease" -nt "$d/boot" ] || continue
  read -r seconds <"$d/lease" || continue
  [ $(( $(date +%s) - $(stat -c %Y "$d/lease") )) -lt "$seconds" ] || exit 0
done`
}

// prepareScript makes the folders and says what there is, as lines of name=value.
func prepareScript(workspace, inDevbox string) string {
	return `set -u; umask 077; d="$HOME/` + folder + `"; w=` + quote(workspace) + `
mkdir -p "$d/bin" "$d/run" "$d/state" || exit 1
case $w in /*) ;; *) w="$HOME/$w" ;; esac
umask 022
mkdir -p "$w" 2>/dev/null || { sudo -n mkdir -p "$w" && sudo -n chown "$(id -u):$(id -g)" "$w"; } 2>/dev/null
[ -w "$w" ] || { sudo -n chown "$(id -u):$(id -g)" "$w"; } 2>/dev/null
[ -w "$w" ] || { w="$HOME/workspace"; mkdir -p "$w" || exit 1; }
say() { printf '%s=%s\n' "$1" "$2"; }
sum() { sha256sum 2>/dev/null <"$1" | cut -d' ' -f1; }
say home "$HOME"; say user "$(id -un)"; say arch "$(uname -m)"; say workspace "$w"
say own "$(sum "$d/bin/` + agentName + `")"; say given "$(sum ` + quote(inDevbox) + `)"
`
}

// startScript starts an agent, unless the one of this nonce runs already, and prints its ready line. A binary that was uploaded is
// checked and put into its place first; the config is read and removed before the agent sees it. The agent is in a session of its
// own and outlives the command.
func startScript(nonce, sum, inDevbox string) string {
	return `set -u; umask 077; d="$HOME/` + folder + `"; r="$d/run"; n=` + nonce + `; sum=` + sum + `; bin="$d/bin/` + agentName + `"
fail() { printf '%s\n' "$1" >&2; rm -f "$r/config-$n" "$d/bin/upload-$n" "$r/pipe-$n"; exit "$2"; }
alive() { [ -s "$r/pid" ] && read -r pid started <"$r/pid" && [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" = "$started" ]; }
if [ -s "$r/ready-$n" ] && alive; then cat "$r/ready-$n"; exit 0; fi
for need in setsid sha256sum mkfifo sed cut; do command -v $need >/dev/null || fail "the image has no $need" 66; done
if [ -f "$d/bin/upload-$n" ]; then
  echo "$sum  $d/bin/upload-$n" | sha256sum -c >/dev/null 2>&1 || fail "the agent was not uploaded whole" 65
  chmod 700 "$d/bin/upload-$n" && mv -f "$d/bin/upload-$n" "$bin" || fail "the agent cannot be put into its place" 66
fi
given=` + quote(inDevbox) + `
[ -z "$given" ] || { echo "$sum  $given" | sha256sum -c >/dev/null 2>&1 && bin=$given; }
echo "$sum  $bin" | sha256sum -c >/dev/null 2>&1 || fail "the agent in the devbox is another one" 65
if alive; then
  kill -TERM "$pid"; i=0
  while alive; do i=$((i+1)); [ $i -lt 100 ] || kill -KILL "$pid"; sleep 0.1; done
fi
rm -f "$r/pid" "$r"/ready-*
exec 3<"$r/config-$n" || fail "the agent's config is not there" 66
rm -f "$r/config-$n" "$r/pipe-$n"; mkfifo "$r/pipe-$n" || fail "no pipe can be made" 66
cd / ; setsid sh -c 'umask 022; exec 4>"$1" && exec "$2" agent --config-fd 3' sh "$r/pipe-$n" "$bin" </dev/null >"$d/start.log" 2>&1 &
exec 3<&-
read -r line <"$r/pipe-$n" || line=
rm -f "$r/pipe-$n"
[ -n "$line" ] || fail "the agent ended before it was ready: $(tail -c 1000 "$d/start.log" "$d/agent.log" 2>/dev/null)" 67
pid=$(printf %s "$line" | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
echo "$pid $(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" >"$r/pid"
printf 'ready=%s\n' "$line" | tee "$r/ready-$n"
`
}

// vscodeScript starts VSCode's server unless it runs. The token is read from a file and not part of any command line.
func vscodeScript(command, token string, port int, workspace string) string {
	return `set -u; umask 077; r="$HOME/` + folder + `/run"; n=` + token + `
TOKEN=$(cat "$r/token-$n") || exit 66
rm -f "$r/token-$n"
if [ -s "$r/vscode" ] && read -r pid started <"$r/vscode" && [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" = "$started" ]; then exit 0; fi
PORT=` + strconv.Itoa(port) + ` FOLDER=` + quote(workspace) + `; export TOKEN PORT FOLDER
umask 022; setsid sh -c ` + quote(command) + ` </dev/null >"$HOME/` + folder + `/vscode.log" 2>&1 &
echo "$! $(cut -d' ' -f22 "/proc/$!/stat" 2>/dev/null)" >"$r/vscode"
`
}

// usageScript says what the devbox uses now.
const usageScript = `n=0; for p in /proc/[0-9]*; do n=$((n+1)); done; echo pids=$n
m=$(cat /sys/fs/cgroup/memory.current 2>/dev/null || cat /sys/fs/cgroup/memory/memory.usage_in_bytes 2>/dev/null)
[ -n "$m" ] || m=$(awk '/^MemTotal/ {t=$2} /^MemAvailable/ {a=$2} END {printf "%d", (t-a)*1024}' /proc/meminfo)
echo memory=$m; echo disk=$(df -Pk / 2>/dev/null | awk 'NR==2 {printf "%d", $3*1024}')
`

// said reads lines of name=value; the rest is passed over.
func said(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			out[name] = value
		}
	}
	return out
}

// The exit statuses of the scripts.
const exitIntegrity = 65

// scriptFailed is the error of a script that did not end well.
func scriptFailed(operation string, exit int, stderr string) *rterr.Error {
	reason := rterr.Provider
	if exit == exitIntegrity {
		reason = rterr.Integrity
	}
	words := strings.ToValidUTF8(strings.TrimSpace(stderr), "?")
	return rterr.New(reason, operation, "%s", orElse(words, "exit status "+strconv.Itoa(exit))).With("exit", strconv.Itoa(exit)).
		WithRemedy("see the devbox's log in Runloop's dashboard; bash, coreutils, sed and setsid must be in the image")
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
