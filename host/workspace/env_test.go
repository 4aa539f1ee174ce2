package workspace

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// odd are values that some shell, somewhere, would take for something else.
func odd() map[string]string {
	return map[string]string{
		"A_DOLLAR": "$HOME ${PATH} $(id) $((1+1))", "A_TICK": "`id`", "A_BANG": "a!b !! !$", "A_QUOTE": `it's "quoted" \n`, "A_EMPTY": "",
		"A_LINES": "one\ntwo\n\nthree\n", "A_TAB": "a\tb\r\x01\x7f", "A_TILDE": "~ ~root:~", "A_GLOB": "* ? [a] {b,c}", "A_SPACE": "  a  b ",
		"A_HASH": "# set by openhands-rt", "A_UNI": "ü 漢 🔄 \u2028 \u0085", "A_DASH": "-n", "A_JSON": `{"a":"b"}`, "A_EQ": "a=b;c&d|e>f<g",
		"A_LONG": strings.Repeat("0123456789", 6000), "a_lower": "kept as it is",
	}
}

func (b *box) setEnv(id string, env map[string]string) error {
	_, err := b.steps.SetEnv(b.t.Context(), &runtimev1.SetEnvRequest{RuntimeId: "r", StepId: id, Env: env})
	return err
}

// shellValue is a variable as the shell has it, byte for byte.
func (b *box) shellValue(name string) string {
	b.t.Helper()
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(b.shell(`printf %s "$` + name + `" | base64 -w0`).Content))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func TestVariablesAreExportedAsTheyAre(t *testing.T) {
	b := newBox(t)
	env := odd()
	if err := b.setEnv("", env); err != nil {
		t.Fatal(err)
	}
	for name, value := range env {
		if got := b.shellValue(name); got != value {
			t.Errorf("%s is %q in the shell, want %q", name, got, value)
		}
	}
	if out := b.shell("env | grep -c ^A_EQ=").Content; strings.TrimSpace(out) != "1" {
		t.Errorf("not exported: %q", out)
	}
	for name, value := range env {
		cmd := exec.Command("bash", "--norc", "-c", `. ~/.bashrc; printf %s "${!1}"`, "x", name)
		cmd.Env = []string{"HOME=" + b.home, "PATH=" + os.Getenv("PATH")}
		if got, err := cmd.Output(); err != nil || string(got) != value {
			t.Errorf("%s is %q in ~/.bashrc, %v, want %q", name, got, err, value)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(b.home, ".openhands-rt*")); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
	info, err := os.Stat(filepath.Join(b.home, ".bashrc"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("~/.bashrc: %v, %v", info.Mode(), err)
	}
	if strings.Join(b.stages, ",") != "workspace" {
		t.Errorf("stages %v", b.stages)
	}
}

func TestValuesAreNowhereButInShellAndBashrc(t *testing.T) {
	b := newBox(t)
	b.shell("set -xv") // what is traced is output, and output is kept
	const secret = "s3cr3t-value"
	if err := b.setEnv("", map[string]string{"TOKEN": secret, "OTHER": "x " + secret}); err != nil {
		t.Fatal(err)
	}
	b.shell("set +xv")
	if got := b.shellValue("TOKEN"); got != secret {
		t.Errorf("%q", got)
	}
	b.noTrace([]string{secret}, b.workspace)
	// The same value fails in every way.
	for _, env := range []map[string]string{{"1X": secret}, {"UID": secret}, {"X": secret + "\x00"}, {"X": strings.Repeat(secret, 10_000)}} {
		err := b.setEnv("", env)
		want(t, err, rterr.InvalidArgument, "env")
		if strings.Contains(err.Error(), secret) {
			t.Error("the error has the value")
		}
	}
}

func TestBashrcKeepsWhatIsNotOursAndOneLineOfEach(t *testing.T) {
	b := newBox(t)
	real := filepath.Join(b.home, "dotfiles")
	if err := os.WriteFile(real, []byte("alias ll='ls -l'\nexport X=theirs"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(b.home, ".bashrc")); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"first", "second\nline", "third"} {
		if err := b.setEnv("", map[string]string{"X": value, "Y": value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.setEnv("", map[string]string{"Y": "last"}); err != nil {
		t.Fatal(err)
	}
	got := read(t, real)
	if got != "alias ll='ls -l'\nexport X=theirs\nexport X=third # set by openhands-rt\nexport Y=last # set by openhands-rt\n" {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(real); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestABusyOrUnwillingShellIsAnError(t *testing.T) {
	b := newBox(t)
	b.shell("readonly FIXED=1")
	want(t, b.setEnv("", map[string]string{"FIXED": "2"}), rterr.IllegalState, "")
	b.occupy()
	want(t, b.setEnv("", map[string]string{"X": "y"}), rterr.IllegalState, "")
	if left, _ := filepath.Glob(filepath.Join(b.home, ".openhands-rt*")); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
	b.shell("C-c", asInput)
	if err := b.setEnv("", map[string]string{"X": "y"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestARepeatedStepDoesNothing(t *testing.T) {
	b := newBox(t)
	env := map[string]string{"X": "1"}
	for range 2 {
		if err := b.setEnv("step-1", env); err != nil {
			t.Fatal(err)
		}
		b.shell("X=changed")
	}
	if got := b.shellValue("X"); got != "changed" {
		t.Errorf("it was exported again: %q", got)
	}
	err := b.setEnv("step-1", map[string]string{"X": "2"})
	want(t, err, rterr.ActionConflict, "")
	if err := b.setEnv("", nil); err != nil {
		t.Errorf("no variables: %v", err)
	}
	want(t, b.setEnv(".", env), rterr.InvalidArgument, "step_id")
}

func TestAHomeThatCannotBeWrittenIsTold(t *testing.T) {
	b := newBox(t)
	b.home = filepath.Join(b.home, "missing")
	want(t, b.setEnv("", map[string]string{"X": "y"}), rterr.PermissionDenied, "")
	b.home = ""
	want(t, b.setEnv("", map[string]string{"X": "y"}), rterr.Unsupported, "")
}

func TestQuoteIsOneWordOnOneLine(t *testing.T) {
	check := func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(
			rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("$`!'\"\\ \n\t~*{}#=é\x01\x7f"))),
			rapid.Map(rapid.SliceOf(rapid.ByteRange(1, 255)), func(b []byte) string { return string(b) }),
		), 20, 20).Draw(t, "values")
		script, all := "", ""
		for _, v := range values {
			v = strings.ReplaceAll(v, "\x00", "")
			q := quote(v)
			if strings.ContainsAny(q, "\n\r") {
				t.Fatalf("%q has more than one line", q)
			}
			script += "printf '%s\\0' " + q + "\n"
			all += v + "\x00"
		}
		got, err := exec.Command("bash", "--norc", "-c", script).Output()
		if err != nil || string(got) != all {
			t.Fatalf("%q, %v, want %q", got, err, all)
		}
	}
	rapid.Check(t, check)
}

func FuzzQuote(f *testing.F) {
	for _, v := range odd() {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		v = strings.ReplaceAll(v, "\x00", "")
		got, err := exec.Command("bash", "--norc", "-c", "printf %s "+quote(v)).Output()
		if len(v) < 30_000 && (err != nil || string(got) != v) {
			t.Errorf("%q, %v, want %q", got, err, v)
		}
	})
}
