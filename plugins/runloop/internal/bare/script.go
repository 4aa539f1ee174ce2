package bare

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// folder has one folder for each action that was begun: it is what makes an action run once.
const folder = ".openhands-rt/actions"

// quote makes one word for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// wrapper is the command that runs one action. It notes the action on the disk before it runs, and says on its standard output what
// it does, line by line: "H" digest and summary, "D" it was begun before, "F" why it cannot begin, "P" the pid, "o" a piece of the
// output in base64, "X" how it ended. Its standard error has the pieces of the program's.
func wrapper(key string, h head, p *action.Process, workspace string, timeout time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "d=\"$HOME/%s/%s\"; w=%s\n", folder, key, quote(workspace))
	fmt.Fprintf(&b, "exec 7>&2 2>/dev/null; umask 077; mkdir -p \"${d%%/*}\"\n")
	fmt.Fprintf(&b, "if ! mkdir \"$d\" 2>/dev/null; then echo \"D $(cat \"$d/head\" 2>/dev/null)\"; exit 0; fi\n")
	fmt.Fprintf(&b, "echo %s >\"$d/head\"; echo \"H $(cat \"$d/head\")\"\numask 022\n", quote(h.encode()))
	fmt.Fprintf(&b, "cd -- \"$w\" && cd -- %s || { : >\"$d/done\"; echo \"F directory\"; exit 0; }\n", quote(orElse(p.Cwd, ".")))
	for _, name := range sortedKeys(p.Env) {
		fmt.Fprintf(&b, "export %s\n", quote(name+"="+p.Env[name]))
	}
	fmt.Fprintf(&b, "type -P -- %s >/dev/null || { : >\"$d/done\"; echo \"F program\"; exit 0; }\n", quote(p.Argv[0]))
	words := make([]string, len(p.Argv))
	for i, a := range p.Argv {
		words[i] = quote(a)
	}
	fmt.Fprintf(&b, "argv=(%s)\nlimit=%s\n", strings.Join(words, " "), strconv.FormatFloat(timeout.Seconds(), 'f', 3, 64))
	b.WriteString(runScript)
	return b.String()
}

// runScript runs argv in a process group of its own, with the signals as they are by default: that is what job control is for. Nothing
// but the program's own words may get to standard error, which is kept as descriptor 7. What jobs says tells the end by a signal from an exit code above 128.
const runScript = `mkfifo "$d/out" "$d/err" || { echo "F pipe"; exit 0; }
began=$(date +%s%3N); state=
relay() { local c; while c=$(dd bs=49152 count=1 2>/dev/null | base64 -w0) && [ -n "$c" ]; do printf '%s\n' "$c"; done; }
trap 's=$(jobs %1 2>/dev/null); case $s in ""|*Running*) ;; *) [ -n "$state" ] || state=$s;; esac' CHLD
set -m; "${argv[@]}" <"/dev/null" >"$d/out" 2>"$d/err" 7>&- &
pid=$!; set +m; echo "$pid" >"$d/pid"; echo "P $pid $began"
relay <"$d/out" & out=$!
relay <"$d/err" >&7 & err=$!
if [ "$limit" != 0.000 ]; then ( exec >/dev/null 7>&-; sleep "$limit"; : >"$d/timed"; kill -KILL -- "-$pid" ) & timer=$!; fi
while [ -z "$state" ]; do
  wait "$pid" 2>/dev/null; rc=$?
  [ -n "$state" ] && break
  if [ $rc -le 128 ]; then state="Exit $rc"; elif ! kill -0 "$pid" 2>/dev/null; then state="Signal $((rc-128))"; fi
done
trap - CHLD
while kill -0 "$out" 2>/dev/null; do wait "$out" 2>/dev/null; done
while kill -0 "$err" 2>/dev/null; do wait "$err" 2>/dev/null; done
[ -z "${timer-}" ] || { kill "$timer" 2>/dev/null; pkill -P "$timer" 2>/dev/null; }
case $state in *Done*) end="exit 0";; *Exit*) n=${state#*Exit }; end="exit ${n%%[!0-9]*}";; *) end="signal 0";; esac
how=ended; [ -e "$d/interrupted" ] && how=interrupted; [ -e "$d/timed" ] && how=timed
echo "$how" >"$d/done"; rm -f "$d/out" "$d/err"
echo "X $how $end $(date +%s%3N)"
`

// signalScript interrupts an action: exit status 44 if it is not known, 45 if it is done.
func signalScript(key, signal string) string {
	return fmt.Sprintf(`d="$HOME/%s/%s"; [ -d "$d" ] || exit 44; [ -e "$d/done" ] && exit 45
i=0; while [ ! -s "$d/pid" ]; do i=$((i+1)); [ $i -lt 100 ] || exit 46; sleep 0.05; done
: >"$d/interrupted"; kill -%s -- "-$(cat "$d/pid")" 2>/dev/null || { [ -e "$d/done" ] && exit 45; exit 0; }`, folder, key, signal)
}

// knownScript says whether an action was ever begun: exit status 44 if not; else its head.
func knownScript(key string) string {
	return fmt.Sprintf(`d="$HOME/%s/%s"; [ -d "$d" ] || exit 44; echo "D $(cat "$d/head" 2>/dev/null)"`, folder, key)
}

// head is what a wrapper's first line says of its action.
type head struct {
	digest, summary string
	timeout         time.Duration
}

func (h head) encode() string {
	return fmt.Sprintf("%s %d %s", h.digest, h.timeout, base64.StdEncoding.EncodeToString([]byte(h.summary)))
}

func decodeHead(text string) (head, bool) {
	f := strings.Fields(text)
	if len(f) < 2 {
		return head{}, false
	}
	timeout, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return head{}, false
	}
	h := head{digest: f[0], timeout: time.Duration(timeout)}
	if len(f) > 2 {
		summary, err := base64.StdEncoding.DecodeString(f[2])
		if err != nil {
			return head{}, false
		}
		h.summary = string(summary)
	}
	return h, true
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
