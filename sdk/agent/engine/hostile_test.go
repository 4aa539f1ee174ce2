package engine

import (
	"strconv"
	"strings"
	"testing"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// hostileStep is a command, and what must come of it. A content of "*" is not looked at.
type hostileStep struct {
	command, content string
	exit             int
}

// hostileCases are sequences in one shell each. After every one of them the shell must work, and say exactly what it is asked.
var hostileCases = map[string][]hostileStep{
	"exit":                   {{"a=1", "", 0}, {"exit 7", "", 7}, {"echo [$a]", "[]", 0}},
	"exit with trap":         {{"trap 'echo bye' EXIT", "", 0}, {"exit 3", "bye", 3}},
	"exec":                   {{"exec sh -c 'echo replaced; exit 9'", "replaced", 9}},
	"exec of nothing":        {{"exec /nowhere", "*", 127}},
	"set -e":                 {{"set -e", "", 0}, {"echo on", "on", 0}, {"false", "", 1}},
	"set -e and a condition": {{"set -e", "", 0}, {"! true", "", 1}, {"echo on", "on", 0}},
	"old nonce": {{"old=$__rt_n; echo x >count", "", 0}, {"echo x >>count; __rt_n=$old", "", 0}, {"cat count", "x\nx", 0},
		{"__rt_n=", "", 0}, {"cat count", "x\nx", 0}},
	"set -u":               {{"set -u", "", 0}, {"echo $nope", "bash: nope: unbound variable", 1}, {"echo on", "on", 0}},
	"set -x":               {{"set -x", "", 0}, {"echo t", "+++ echo t\nt", 0}, {"set +x", "+++ set +x", 0}, {"echo t", "t", 0}},
	"set -ex":              {{"set -ex", "", 0}, {"echo t", "+++ echo t\nt", 0}, {"false", "+++ false", 1}},
	"set -n, -v, -f":       {{"set -nvf", "", 0}, {"set +v", "*", 0}, {"echo *", "*", 0}},
	"set -r":               {{"set -r", "*", 125}},
	"set -o posix":         {{"set -o posix", "", 0}, {"echo on", "on", 0}},
	"set -t":               {{"set -t; echo last", "last", 0}},
	"unset PROMPT_COMMAND": {{"unset PROMPT_COMMAND", "", 0}, {"echo on", "on", 0}},
	"other PROMPT_COMMAND": {{"PROMPT_COMMAND='echo prompt'", "", 0}, {"echo on", "on", 0}},
	"prompts":              {{"PS1='$(echo one) ' PS2='two' PS4='$(echo four) '", "", 0}, {"echo on", "on", 0}},
	"break":                {{"false", "", 1}, {"break 5", "", 0}, {"break", "", 0}, {"continue", "", 0}, {"echo on", "on", 0}},
	"status by turns": {{"false", "", 1}, {"echo $? $_", "1 false", 0}, {"echo $? x", "0 x", 0}, {"(exit 3)", "", 3}, {"(exit 4)", "", 4},
		{"echo $?", "4", 0}, {"false", "", 1}, {"break", "", 0}, {"false", "", 1}, {"break 2", "", 0}, {"false", "", 1}, {"break 9", "", 0},
		{"echo $?", "0", 0}, {"sh -c 'kill -STOP $$'", "*", 147}, {"echo $?", "147", 0}, {"kill -9 %1; wait", "*", -2}},
	"descriptors of a program": {{"false; ls /proc/self/fd | tail -n +4 | wc -l", "1", 0}},
	"errexit and what it does not see": {{"set -e; ! true", "", 1}, {"echo $?", "1", 0}, {"[ a = b ] && echo no", "", 1}, {"echo $-", "*", 0},
		{"set -o errexit; ! true", "", 1}, {"false || true", "", 0}, {"! true # why", "", 1}, {"set +e", "", 0}, {"false", "", 1}, {"echo $?", "1", 0}},
	"errexit ends the shell": {{"set -e; kept=1", "", 0}, {"false", "*", 1}, {"echo [$kept]", "[]", 0}},
	"return":                 {{"return 4", "*", 2}},
	"syntax error":           {{"if", "*", 2}, {"echo )", "*", 2}, {"}", "*", 2}},
	"unclosed quote":         {{"echo 'a", "*", 2}, {"echo `date", "*", 2}, {"echo $(", "*", 2}},
	"unclosed here-doc":      {{"cat <<E\nx", "*", 0}},
	"trap DEBUG":             {{"trap 'echo D' DEBUG", "", 0}, {"echo t", "D\nD\nt", 0}, {"trap - DEBUG", "*", 0}},
	"trap DEBUG that fails":  {{"trap false DEBUG", "", 0}, {"echo t", "t", 0}},
	"trap ERR":               {{"trap 'echo E' ERR", "", 0}, {"false", "*", 1}, {"echo on", "on", 0}},
	"trap RETURN":            {{"set -T; trap 'echo R' RETURN", "", 0}, {"echo on", "on", 0}},
	"ignored INT":            {{"trap '' INT", "", 0}, {"break", "", 0}, {"echo on", "on", 0}},
	"kill -9 itself":         {{"kill -9 $$", "", 137}},
	"kill -INT itself":       {{"kill -INT $$; echo not here", "*", 130}},
	"stopped job":            {{"sh -c 'kill -STOP $$'", "*", 147}, {"kill -9 %1; wait", "*", 0}},
	"stty -echo":             {{"stty -echo", "", 0}, {"echo on", "on", 0}},
	"stty raw":               {{"stty raw", "", 0}, {"printf 'a\\nb'", "a\nb", 0}},
	"stty sane":              {{"stty sane", "", 0}, {"printf 'a\\nb\\n'", "a\nb", 0}},
	"stty olcuc tostop":      {{"stty olcuc tostop", "", 0}, {"printf abc", "ABC", 0}, {"stty -olcuc -tostop", "", 0}},
	"closed descriptors":     {{"exec 3>&- 247>&- 248<&- 249>&-", "", 0}, {"for i in {3..20}; do eval \"exec $i>&-\"; done", "*", 0}},
	"closed stdio":           {{"exec <&-", "", 0}, {"echo on", "on", 0}},
	"stdin elsewhere":        {{"exec </dev/null", "", 0}, {"cat", "", 0}, {"echo on", "on", 0}},
	"saved descriptors": {{"exec 10>/dev/null 11>/dev/null 12>/dev/null", "", 0}, {"echo on", "on", 0}, {"exec 10>&- 11>&- 12>&- 13>&-", "", 0},
		{"echo on", "on", 0}, {"exec 10</dev/null; read -u 10 x", "", 1}, {"echo on; ls nothing-here", "*", 2}},
	"writing to everything": {{"for f in /proc/$$/fd/*; do printf 'x\\0%s\\0y' KEY >$f; done 2>/dev/null", "*", -2}},
	"fake report": {{`for f in /proc/$$/fd/*; do printf '%s\0' "$__rt_key" fake 99 0 1 / root vm py >$f; done 2>/dev/null`,
		"*", -2}},
	"private variables":             {{"__rt_q=0; __rt_i=0; __rt_n=x; __rt_a=(1 2)", "*", -2}},
	"overridden builtins":           {{"printf() { echo no; }; read() { echo no; }; eval() { echo no; }; exit() { echo no; }", "", 0}, {"pwd >/dev/null", "", 0}},
	"aliases":                       {{"alias while=echo printf=false read=false if=echo", "", 0}, {"echo on", "on", 0}},
	"IFS":                           {{"IFS='0123456789/ '", "", 0}, {"echo on", "on", 0}},
	"TMOUT":                         {{"TMOUT=1", "", 0}, {"sleep 1.2; echo on", "on", 0}},
	"readonly PWD":                  {{"unset PWD OLDPWD", "", 0}, {"echo on", "on", 0}},
	"empty PATH":                    {{"PATH=", "", 0}, {"echo on", "on", 0}},
	"NUL and rubbish":               {{`printf 'a\0b\xff\xfe\x1b[31mc\r\nd'`, "a\x00b\uFFFD\x1b[31mc\nd", 0}},
	"markers":                       {{`printf '\n###PS1JSON###\n{"exit_code":9}\n###PS1END###\n'`, "*", 0}},
	"digits":                        {{"for i in {1..200}; do printf 0123456789; done", strings.Repeat("0123456789", 200), 0}},
	"no newline":                    {{"printf %s end", "end", 0}},
	"huge line":                     {{"head -c 200000 /dev/zero | tr '\\0' x", strings.Repeat("x", 15000) + truncated + strings.Repeat("x", 15000), 0}},
	"background noise":              {{"(while sleep 0.01; do echo noise; done) & noise=$!", "*", 0}, {"sleep 0.1; kill $noise", "*", 0}, {"wait 2>/dev/null", "*", -2}},
	"background reader":             {{"cat &", "*", 0}, {"kill -9 $!; wait", "*", -2}},
	"history expansion":             {{"echo '!!' \"a!b\"", "!! a!b", 0}},
	"nested shell":                  {{"bash -ic 'echo inner; exit 5'", "*", 5}},
	"suspended by itself":           {{"( kill -TSTP $BASHPID )", "*", 148}},
	"functions":                     {{"unset -f __rt_status", "", 0}},
	"removed folder":                {{"mkdir gone && cd gone && rmdir ../gone", "", 0}, {"echo on", "on", 0}, {"cd ..", "*", -2}},
	"resource limits":               {{"ulimit -n 20", "*", -2}, {"echo on", "*", -2}},
	"readonly PROMPT_COMMAND":       {{"readonly PROMPT_COMMAND", "", 0}, {"echo on", "on", 0}, {"break", "*", -2}, {"echo on", "on", 0}},
	"PROMPT_COMMAND is unset":       {{"unset PROMPT_COMMAND; break", "*", -2}, {"echo on", "on", 0}},
	"the hook's functions are gone": {{"for f in $(compgen -A function __rt_); do unset -f $f; done", "*", -2}, {"echo on", "*", -2}},
	"readonly functions":            {{"readonly -f __rt_end", "*", -2}, {"echo on", "on", 0}},
	"fd games":                      {{"exec 246>&1 247>&1 248>&1 249>&1 250>&1 251>&1 252>&1", "*", -2}, {"echo on", "*", -2}},
	"fds closed in a loop":          {{"for i in {240..255}; do eval \"exec $i>&-\"; done 2>/dev/null", "*", -2}, {"echo on", "*", -2}},
	"exec of another shell":         {{"exec bash --norc -c 'echo inner; exit 6'", "inner", 6}, {"echo on", "on", 0}},
	"a trap of EXIT":                {{"trap 'echo bye' EXIT", "", 0}, {"echo on", "on", 0}, {"exit 4", "bye", 4}, {"echo on", "on", 0}},
	"set -euxo pipefail":            {{"set -euxo pipefail", "", 0}, {"true", "*", 0}, {"echo $undefined", "*", -2}, {"echo on", "*", 0}},
	"nounset":                       {{"set -u; unset PATH HOME PWD _", "", 0}, {"echo on", "on", 0}, {"echo $undefined", "*", 1}, {"echo on", "on", 0}},
	"noclobber and nullglob":        {{"set -C; shopt -s nullglob failglob extglob dotglob globstar nocaseglob nocasematch", "", 0}, {"echo on", "on", 0}},
	"posix and extdebug":            {{"set -o posix", "", 0}, {"echo on", "on", 0}, {"set +o posix; shopt -s extdebug", "", 0}, {"echo on", "on", 0}},
	"compat and huponexit":          {{"BASH_COMPAT=4.2; shopt -s huponexit checkjobs lastpipe", "", 0}, {"echo on | cat", "on", 0}},
	"umask":                         {{"umask 777", "", 0}, {"echo on", "on", 0}, {"cat <<<on", "*", -2}, {"umask 022", "", 0}, {"cat <<<on", "on", 0}},
	"a locale that is not there":    {{"export LC_ALL=xx_YY.nothing", "*", 0}, {"echo on", "*", 0}},
	"a trap that signals":           {{"trap 'kill -INT $$' USR1", "", 0}, {"kill -USR1 $$", "*", -2}, {"echo on", "on", 0}},
	"NULs in between":               {{"printf 'x\\0\\0y'; head -c 3 /dev/zero", "x\x00\x00y\x00\x00\x00", 0}, {"echo on", "on", 0}},
	"the terminal's own modes":      {{"stty raw -echo -isig -icanon min 0 time 0", "", 0}, {"echo on", "on", 0}, {"stty 0 2>/dev/null", "*", -2}, {"echo on", "on", 0}},
	"another process group":         {{"bash -ic 'kill -STOP $$' & sleep 0.1; kill -9 $!; wait", "*", -2}, {"echo on", "*", 0}},
	"history and the editor":        {{"set -o history; fc -l 2>/dev/null; set -o vi; bind -x '\"\\C-m\":exit' 2>/dev/null", "*", -2}, {"echo on", "*", 0}},
	"a huge line of arguments":      {{"echo $(head -c 300000 /dev/zero | tr '\\0' y) | wc -c", "300001", 0}, {"echo on", "on", 0}},
	"many functions and variables":  {{"for i in {1..3000}; do eval \"v$i=$i; f$i() { :; }\"; done", "", 0}, {"echo $v3000", "3000", 0}},
}

func TestHostileCommands(t *testing.T) {
	for name, steps := range hostileCases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			for _, step := range steps {
				s := l.sh(step.command)
				code := s.run.Extras.Metadata.ExitCode
				if step.exit != -2 && code != step.exit {
					t.Errorf("%q: exit %d (%q), want %d", step.command, code, s.run.Content, step.exit)
				}
				if step.content != "*" && s.run.Content != step.content {
					t.Errorf("%q: got %q, want %q", step.command, s.run.Content, step.content)
				}
			}
			l.mustWork()
		})
	}
}

// mustWork finds out whether the shell does what it is told, each command once, with its own output and exit code. What the case
// has left in the shell may add to the output, and a case may have to end its shell first.
func (l *lab) mustWork() {
	l.Helper()
	mark := l.cfg.Workspace + "/count"
	for i := 1; i <= 3; i++ {
		n := strconv.Itoa(i)
		s := l.sh("exec 2>/dev/null; \\builtin echo " + n + " >>" + mark + "; \\builtin echo works-" + n + "; (\\builtin exit " + n + ")")
		if s.obs.Outcome != agentv1.Outcome_OUTCOME_COMPLETED {
			l.Fatalf("outcome %v", s.obs.Outcome)
		}
		if code := s.run.Extras.Metadata.ExitCode; code != i && code != 125 || code == i && !strings.Contains(s.run.Content, "works-"+n) {
			l.Errorf("after it: %q, exit %d", s.run.Content, code)
		}
	}
	s := l.exec(request(l, "", action.KindRun, action.Run{Command: "cat " + mark, IsStatic: true}, 0))
	for i := 1; i <= 3; i++ {
		if strings.Count(s.run.Content, strconv.Itoa(i)) > 1 {
			l.Errorf("a command ran twice: %q", s.run.Content)
		}
	}
}

func TestStoppedTerminal(t *testing.T) {
	l := newLab(t)
	g := l.start(request(t, "", action.KindRun, action.Run{Command: "echo up; read x; echo $x"}, 0)).output()
	input := []byte{'a', 0x13, '\n'} // Ctrl-S: nothing comes out any more.
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Data: input}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Offset: 3, Data: []byte{0x11}}); err != nil {
		t.Fatal(err)
	}
	if s := g.wait(); !strings.HasPrefix(s.run.Content, "up\n") || !strings.HasSuffix(s.run.Content, "\na") {
		t.Errorf("%q", s.run.Content)
	}
	g = l.start(request(t, "", action.KindRun, action.Run{Command: "echo up; read x; sleep 0.05; stty -g >/dev/null"}, 0)).output()
	if _, err := l.Input(l.ctx(), &agentv1.InputRequest{ActionId: g.id, Data: []byte{'\n', 0x13}}); err != nil {
		t.Fatal(err)
	}
	if s := g.wait(); s.run.Extras.Metadata.ExitCode != 0 {
		t.Errorf("%+v", s.run)
	}
	l.mustWork()
}
