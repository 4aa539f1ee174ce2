package editor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// hostileCases are what somebody leaves in the workspace, and what must come of an edit there. $W is the workspace.
var hostileCases = map[string]struct {
	prepare func(t *testing.T, dir string)
	command string
	path    string
	more    args
	want    string
}{
	"link loop": {link("loop", "loop"), "str_replace", "loop", args{"old_str": "a"},
		"ERROR:\nInvalid `path` parameter: $W/loop. The path $W/loop does not exist. Please provide a valid path."},
	"two links in a circle": {func(t *testing.T, dir string) { link("a", "b")(t, dir); link("b", "a")(t, dir) }, "create", "a",
		args{"file_text": "x"}, "ERROR:\nRan into [Errno 40] Too many levels of symbolic links: '$W/a' while trying to write to $W/a"},
	"FIFO, view":   {fifo, "view", "fifo", nil, "ERROR:\nFile validation failed for $W/fifo: It is not a regular file*"},
	"FIFO, edit":   {fifo, "insert", "fifo", args{"insert_line": 0, "new_str": "x"}, "ERROR:\nFile validation failed for $W/fifo: It is not*"},
	"FIFO, undo":   {fifo, "undo_edit", "fifo", nil, "ERROR:\nFile validation failed for $W/fifo: It is not a regular file*"},
	"FIFO, create": {fifo, "create", "fifo", args{"file_text": "x"}, "*File already exists at: $W/fifo. Cannot*"},
	"link to a FIFO": {func(t *testing.T, dir string) { fifo(t, dir); link("ln", "fifo")(t, dir) }, "view", "ln", nil,
		"ERROR:\nFile validation failed for $W/ln: It is not a regular file*"},
	"device that never ends":  {nil, "view", "/dev/zero", nil, "ERROR:\nFile validation failed for /dev/zero: It is not a regular file*"},
	"device that swallows":    {nil, "str_replace", "/dev/null", args{"old_str": "", "new_str": "x"}, "*It is not a regular file*"},
	"terminal":                {nil, "view", "/dev/ptmx", nil, "*It is not a regular file*"},
	"file of the kernel's":    {nil, "view", "/proc/self/status", nil, "Here's the result of running `cat -n` on /proc/self/status:\n     1\tName:*"},
	"memory of a process":     {nil, "view", "/proc/self/mem", nil, "ERROR:\nRan into [Errno 5] Input/output error: '/proc/self/mem' while*"},
	"settings of the kernel":  {nil, "str_replace", "/proc/version", args{"old_str": "Linux", "new_str": "x"}, "ERROR:\nRan into [Errno *] * while trying to write to /proc/version"},
	"huge sparse file":        {sparse(1 << 40), "view", "big", nil, "ERROR:\nFile validation failed for $W/big: File is too large (1048576.0MB). Maximum allowed size is 10MB."},
	"one byte too many":       {sparse(10<<20 + 1), "undo_edit", "big", nil, "*File is too large (10.0MB). Maximum allowed size is 10MB."},
	"NUL bytes":               {sparse(4096), "view", "big", nil, "*File appears to be binary and this file type cannot be read or edited by this tool."},
	"name with a newline":     {file("a\nb", "x\n"), "str_replace", "a\nb", args{"old_str": "x", "new_str": "y"}, "The file $W/a\nb has been edited.*"},
	"folder with such a name": {file("a\n$(touch hacked)/f", ""), "view", "a\n$(touch hacked)", nil, "Here's the files*\n$W/a\n$(touch hacked)/\n$W/a\n$(touch hacked)/f"},
	"quotes in a folder":      {file("'; touch hacked; '/f", ""), "view", "'; touch hacked; '", nil, "*$W/'; touch hacked; '/f"},
	"NUL in the path":         {nil, "view", "a\x00b", nil, "*The path $W/a\x00b does not exist. Please provide a valid path."},
	"NUL in a new path":       {nil, "create", "a\x00b", args{"file_text": "x"}, "ERROR:\nRan into embedded null byte while trying to write to $W/a\x00b"},
	"name that is too long":   {nil, "create", strings.Repeat("n", 256), args{"file_text": "x"}, "ERROR:\nRan into [Errno 36] File name too long: *"},
	"path that is too long":   {nil, "view", strings.Repeat("d/", 4096), nil, "ERROR:\nRan into [Errno 36] File name too long: *"},
	"file as a folder":        {file("f", "x"), "create", "f/g", args{"file_text": "x"}, "ERROR:\nRan into [Errno 20] Not a directory: '$W/f/g' while trying to write to $W/f/g"},
	"invalid UTF-8":           {file("f", "caf\xe9 ok\n"), "str_replace", "f", args{"old_str": "ok", "new_str": "x"}, "ERROR:\nRan into 'utf-8' codec can't decode byte 0xe9 in position 3: invalid continuation byte while trying to read $W/f"},
	"text that is cut":        {file("f", "x\xe4\xb8"), "view", "f", nil, "ERROR:\nRan into 'utf-8' codec can't decode bytes in position 1-2: unexpected end of data while trying to read $W/f"},
	"old_str of a megabyte":   {file("f", "x\n"), "str_replace", "f", args{"old_str": strings.Repeat("y", 1<<20), "new_str": "x"}, "ERROR:\nNo replacement was performed, old_str `yyy*yyy` did not appear verbatim in $W/f."},
	"a place on every line":   {file("f", strings.Repeat("a\n", 1<<20)), "str_replace", "f", args{"old_str": "a", "new_str": "b"}, "ERROR:\nNo replacement was performed. Multiple occurrences of old_str `a` in lines [1, 2, 3, *]. Please ensure it is unique."},
	"empty old_str, long file": {file("f", strings.Repeat("a", 9<<20)), "str_replace", "f", args{"old_str": "", "new_str": "b"},
		"ERROR:\nNo replacement was performed. Multiple occurrences of old_str `` in lines [1]. Please ensure it is unique."},
	"number that is too large": {file("f", "x"), "insert", "f", args{"insert_line": "99999999999999999999", "new_str": ""}, "ERROR:\nInvalid insert_line value: '99999999999999999999'. Expected an integer."},
	"line that is no number":   {file("f", "x"), "insert", "f", args{"insert_line": []int{1}, "new_str": ""}, "ERROR:\nInvalid insert_line value: '[1]'. Expected an integer."},
}

func link(name, to string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.Symlink(to, dir+"/"+name)) }
}

func fifo(t *testing.T, dir string) { must(t, unix.Mkfifo(dir+"/fifo", 0o600)) }

func file(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { scenario{Files: map[string]string{name: text}}.furnish(t, dir) }
}

func sparse(size int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		file("big", "")(t, dir)
		if err := os.Truncate(dir+"/big", size); errors.Is(err, unix.EFBIG) {
			t.Skip("this file system has no such large files")
		} else {
			must(t, err)
		}
	}
}

// like matches a text with a pattern in which * is anything.
func like(pattern, text string) bool {
	return regexp.MustCompile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(text)
}

func TestHostileFiles(t *testing.T) {
	for name, c := range hostileCases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if c.prepare != nil {
				c.prepare(t, l.workspace)
			}
			path := c.path
			if !strings.HasPrefix(path, "/dev") && !strings.HasPrefix(path, "/proc") {
				path = l.workspace + "/" + path
			}
			before := regular(t, l.workspace)
			got := strings.ReplaceAll(l.command(c.command, path, c.more), l.workspace, "$W")
			if !like(c.want, got) {
				t.Errorf("got  %.300q\nwant %q", got, c.want)
			}
			if after := regular(t, l.workspace); strings.HasPrefix(got, "ERROR") && fmt.Sprint(after) != fmt.Sprint(before) {
				t.Error("a refused edit has changed something")
			}
			if _, err := os.Lstat(l.workspace + "/hacked"); !errors.Is(err, fs.ErrNotExist) {
				t.Error("a name was executed")
			}
		})
	}
}

func TestReadAndWriteOfWhatIsNoFile(t *testing.T) {
	l := newLab(t)
	fifo(t, l.workspace)
	sparse(1<<30)(t, l.workspace)
	link("loop", "loop")(t, l.workspace)
	for _, c := range []struct{ kind, path, want string }{
		{action.KindRead, "fifo", "Path is not a regular file: $W/fifo. You can only read files"},
		{action.KindWrite, "fifo", "Path is not a regular file: $W/fifo. You can only write to files"},
		{action.KindRead, "/dev/zero", "Path is not a regular file: /dev/zero. You can only read files"},
		{action.KindWrite, "/dev/null", "Path is not a regular file: /dev/null. You can only write to files"},
		{action.KindRead, "big", "File is too large (1024.0MB). Maximum allowed size is 10MB."},
		{action.KindRead, "loop", "FAILED: [Errno 40] Too many levels of symbolic links: '$W/loop'"},
		{action.KindWrite, "loop", "FAILED: [Errno 40] Too many levels of symbolic links: '$W/loop'"},
		{action.KindRead, "a\x00b", "FAILED: embedded null byte"},
		{action.KindWrite, "a\x00b", "FAILED: embedded null byte"},
	} {
		got := strings.ReplaceAll(l.content(c.kind, args{"path": c.path, "content": "x"}), l.workspace, "$W")
		if got != c.want {
			t.Errorf("%s %q: %q, want %q", c.kind, c.path, got, c.want)
		}
	}
}

func TestWhatDoesNotFitIntoAMessage(t *testing.T) {
	l := newLab(t)
	file("long.txt", strings.Repeat("\x01", 2<<20))(t, l.workspace) // Six bytes each, in JSON.
	file("i.png", strings.Repeat("x", 6<<20))(t, l.workspace)
	for _, name := range []string{"long.txt", "i.png"} {
		if got := l.content(action.KindRead, args{"path": name}); !strings.HasPrefix(got, "File is too large to be read at once (") {
			t.Errorf("%s: %.80q", name, got)
		}
	}
	file("all.txt", strings.Repeat("old line\n", 400_000))(t, l.workspace)
	o := l.do(action.KindEdit, args{"command": "create", "path": l.workspace + "/n", "file_text": strings.Repeat("\x01", 600_000)})
	if o.GetOutcome() != agentv1.Outcome_OUTCOME_COMPLETED || len(o.GetPayload()) > maxObservation {
		t.Errorf("%v, %d bytes", o.GetOutcome(), len(o.GetPayload()))
	}
}

func TestAFileThatGoesAndComes(t *testing.T) {
	l := newLab(t)
	path := l.workspace + "/f"
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.Remove(path)
				_ = os.WriteFile(path, []byte("a\n"), 0o644)
			}
		}
	})
	for range 200 {
		for _, got := range []string{
			l.command("str_replace", path, args{"old_str": "a", "new_str": "b"}), l.command("view", path, nil), l.command("undo_edit", path, nil),
		} {
			if strings.HasPrefix(got, "FAILED") {
				t.Error(got)
			}
		}
	}
	close(stop)
	others.Wait()
}

func TestNothingLeavesTheRoot(t *testing.T) {
	l := newLab(t)
	outside := t.TempDir()
	file("secret.txt", "secret\n")(t, outside)
	root := t.TempDir()
	must(t, os.Symlink(outside+"/secret.txt", root+"/ln.txt"))
	must(t, os.Symlink(outside, root+"/out"))
	l.shut()
	l.open(root)
	for _, path := range []string{"/ln.txt", "/out/secret.txt", "/../../../../../.." + outside + "/secret.txt", "/proc/self/root" + outside + "/secret.txt"} {
		for _, got := range []string{
			l.command("view", path, nil), l.command("str_replace", path, args{"old_str": "secret", "new_str": "x"}),
			l.content(action.KindRead, args{"path": path}),
		} {
			if strings.Contains(got, "secret\n") || strings.Contains(got, "edited") {
				t.Errorf("%s: %q", path, got)
			}
		}
	}
	// What they answer depends on what can be made inside; nothing may be made outside.
	_ = l.command("create", "/out/new.txt", args{"file_text": "x"})
	_ = l.content(action.KindWrite, args{"path": "/out/new.txt", "content": "x"})
	_ = l.content(action.KindWrite, args{"path": "/ln.txt", "content": "x"})
	if got := regular(t, outside); len(got) != 1 || got["secret.txt"] != "secret\n" {
		t.Errorf("outside of the root: %q", got)
	}
	if got := l.command("create", "/in.txt", args{"file_text": "x"}); got != "File created successfully at: /in.txt" {
		t.Error(got)
	}
	if _, err := os.Stat(root + "/in.txt"); err != nil {
		t.Error(err)
	}
}

func TestAListingIsBounded(t *testing.T) {
	l := newLab(t)
	for i := range maxPaths + 3000 {
		f, err := os.Create(fmt.Sprintf("%s/f%06d", l.workspace, (i*7919)%(maxPaths+3000)))
		must(t, err)
		must(t, f.Close())
	}
	e := &listing{files: l.files}
	must(t, e.enter(context.Background(), l.workspace, 0))
	if len(e.found) != maxPaths {
		t.Errorf("%d paths are kept", len(e.found))
	}
	got := l.command("view", l.workspace, nil)
	if !strings.Contains(got, filepath.Join(l.workspace, "f000000")+"\n"+filepath.Join(l.workspace, "f000001")+"\n") ||
		!strings.HasSuffix(got, clipDir) {
		t.Errorf("%.300q", got)
	}
}
