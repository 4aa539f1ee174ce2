package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// The tests of this file are named after the points 3 to 10 of the compatibility checklist: what an action's answer looks like.

// atDoor starts a daemon and a session of its own.
func atDoor(t *testing.T) *session {
	t.Helper()
	t.Parallel()
	d := newDaemon(t, "")
	d.start()
	return d.remote().begin("s1")
}

func part(o object, key string) object {
	p, _ := o[key].(object)
	return p
}

func metadataOf(o object) object { return part(part(o, "extras"), "metadata") }

// hint ends every suffix of a command that runs on.
const hint = "You may wait longer to see additional output by sending empty command '', send other commands to interact with the " +
	"current process, send keys (\"C-c\", \"C-z\", \"C-d\") to interrupt/kill the previous command before sending your new command, " +
	"or use the timeout parameter in execute_bash for future commands."

func TestPoint3ExtrasAreThereAndHiddenAnswersAreRuns(t *testing.T) {
	s := atDoor(t)
	known := map[string][]string{
		"run": {"command", "hidden", "metadata"}, "read": {"impl_source", "path"}, "write": {"path"}, "error": {"error_id"},
		"edit": {"_diff_cache", "diff", "impl_source", "new_content", "old_content", "path", "prev_exist"},
	}
	for _, obs := range []object{
		s.run("echo hi"), s.run("true\nfalse"), s.action("write", object{"path": "f", "content": "x"}),
		s.action("read", object{"path": "f"}), s.action("read", object{"path": "missing"}),
		s.action("edit", object{"path": "/workspace/f", "command": "view"}), s.action("edit", object{"path": "f", "command": "view"}),
	} {
		kind := text(obs, "observation")
		if got := slices.Sorted(maps.Keys(part(obs, "extras"))); !slices.Equal(got, known[kind]) {
			t.Errorf("%s has the extras %v, want %v", kind, got, known[kind])
		}
	}
	for name, args := range map[string]object{
		"hidden":                  {"command": "echo hi", "hidden": true},
		"hidden, several":         {"command": "true\nfalse", "hidden": true},
		"static":                  {"command": "pwd", "is_static": true, "cwd": "/tmp"},
		"hidden and static":       {"command": "pwd", "is_static": true, "cwd": "/tmp", "hidden": true},
		"hidden, nothing runs":    {"command": "", "hidden": true},
		"hidden, input to nobody": {"command": "x", "is_input": true, "hidden": true},
	} {
		if obs := s.action("run", args, 60); obs["observation"] != "run" || part(obs, "extras") == nil {
			t.Errorf("%s: %v", name, obs)
		}
	}
}

func TestPoint4MetadataIsComplete(t *testing.T) {
	s := atDoor(t)
	done := s.run("(exit 3)")
	m := metadataOf(done)
	want := []string{"exit_code", "hostname", "pid", "prefix", "py_interpreter_path", "suffix", "username", "working_dir"}
	if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, want) {
		t.Errorf("metadata has %v", got)
	}
	if m["exit_code"] != 3.0 || m["suffix"] != "\n[The command completed with exit code 3.]" || m["prefix"] != "" || m["pid"] != -1.0 {
		t.Errorf("%v", m)
	}
	running := metadataOf(s.action("run", object{"command": "echo before; sleep 2.5; echo after"}, 1))
	if got := slices.Sorted(maps.Keys(running)); !slices.Equal(got, want) {
		t.Errorf("metadata of what runs has %v", got)
	}
	if running["exit_code"] != -1.0 || running["suffix"] != "\n[The command timed out after 1.0 seconds. "+hint+"]" {
		t.Errorf("%v", running)
	}
	after := s.action("run", object{"command": ""}, 60)
	if m := metadataOf(after); text(after, "content") != "after" || m["exit_code"] != 0.0 ||
		m["suffix"] != "\n[The command completed with exit code 0.]" {
		t.Errorf("%v", after)
	}
}

func TestPoint5SuccessIsThere(t *testing.T) {
	t.Parallel()
	s := withPython(t).remote().begin("s1")
	cell := s.action("run_ipython", object{"code": "1/0"}, 120)
	for _, c := range []struct {
		obs  object
		want any
	}{{s.run("true"), true}, {s.run("false"), false}, {cell, true}} {
		if c.obs["success"] != c.want {
			t.Errorf("success is %v in %v", c.obs["success"], c.obs)
		}
	}
	if obs := s.action("read", object{"path": "missing"}); obs["success"] != nil {
		t.Errorf("an error has success: %v", obs)
	}
}

func TestPoint6StripEmptyInputAndKeys(t *testing.T) {
	s := atDoor(t)
	if obs := s.run("  echo hi \n"); text(obs, "content") != "hi" || part(obs, "extras")["command"] != "echo hi" {
		t.Errorf("%v", obs)
	}
	for command, want := range map[string]string{
		"": "ERROR: No previous running command to retrieve logs from.", "text": "ERROR: No previous running command to interact with.",
	} {
		obs := s.action("run", object{"command": command, "is_input": command != ""}, 60)
		if text(obs, "content") != want || part(obs, "extras")["command"] != "" || metadataOf(obs)["exit_code"] != -1.0 {
			t.Errorf("%q: %v", command, obs)
		}
	}
	s.action("run", object{"command": "sleep 1000"}, 1)
	obs := s.action("run", object{"command": "C-c", "is_input": true}, 60)
	if m := metadataOf(obs); m["exit_code"] != 130.0 || m["suffix"] != "\n[The command completed with exit code 130. CTRL+C was sent.]" {
		t.Errorf("%v", obs)
	}
	s.action("run", object{"command": "read line; echo got $line"}, 1)
	if obs := s.action("run", object{"command": "C-cc", "is_input": true}, 60); !strings.HasSuffix(text(obs, "content"), "got C-cc") {
		t.Errorf("four characters are no key: %v", obs)
	}
}

func TestPoint7SeveralCommandsAreRefused(t *testing.T) {
	s := atDoor(t)
	obs := s.run("echo one > ran\necho two")
	const want = "ERROR: Cannot execute multiple commands at once.\nPlease run each command separately OR chain them into a single " +
		"command via && or ;\nProvided commands:\n(1) echo one > ran\n(2) echo two"
	if obs["observation"] != "error" || text(obs, "content") != want || part(obs, "extras")["error_id"] != "" {
		t.Errorf("%v", obs)
	}
	if got := s.content("echo a; echo b && ls"); got != "a\nb" {
		t.Errorf("one line is one command, and nothing of the refused ones ran: %q", got)
	}
}

func TestPoint8LongContentIsCut(t *testing.T) {
	s := atDoor(t)
	const half, prints = 15_000, "printf 'a%.0s' {1..20000}; printf 'b%.0s' {1..20000}"
	cut := strings.Repeat("a", half) + "\n[... Observation truncated due to length ...]\n" + strings.Repeat("b", half)
	if got := s.content(prints); got != cut {
		t.Errorf("%d characters", len(got))
	}
	hidden := s.action("run", object{"command": prints, "hidden": true}, 60)
	if got := text(hidden, "content"); got != strings.Repeat("a", 20000)+strings.Repeat("b", 20000) {
		t.Errorf("hidden: %d characters", len(got))
	}
}

func TestPoint9WritesEndInANewlineAndReadsNameThePath(t *testing.T) {
	s := atDoor(t)
	path := strings.TrimSpace(s.content("pwd")) + "/f"
	wrote := s.action("write", object{"path": "f", "content": "one\ntwo"})
	if part(wrote, "extras")["path"] != path || text(wrote, "content") != "" || text(wrote, "message") != "I wrote to the file "+path+"." {
		t.Errorf("%v", wrote)
	}
	read := s.action("read", object{"path": "f"})
	if text(read, "content") != "one\ntwo\n" || part(read, "extras")["path"] != path {
		t.Errorf("%v", read)
	}
	cwd := strings.TrimSuffix(path, "/f")
	want := fmt.Sprintf("File not found: %s/missing. Your current working directory is %s.", cwd, cwd)
	if missing := s.action("read", object{"path": "missing"}); missing["observation"] != "error" || text(missing, "content") != want {
		t.Errorf("%v", missing)
	}
}

func TestPoint10EditorsMessages(t *testing.T) {
	s := atDoor(t)
	file := strings.TrimSpace(s.content("pwd")) + "/t.txt"
	edit := func(args object) object {
		t.Helper()
		args["path"] = file
		obs := s.action("edit", args)
		if obs["observation"] != "edit" || part(obs, "extras")["path"] != file {
			t.Errorf("%v", obs)
		}
		return obs
	}
	if got := text(edit(object{"command": "create", "file_text": "one\ntwo\n"}), "content"); got != "File created successfully at: "+file {
		t.Errorf("create: %q", got)
	}
	obs := edit(object{"command": "str_replace", "old_str": "two", "new_str": "TWO"})
	want := "The file " + file + " has been edited. Here's the result of running `cat -n` on a snippet of " + file +
		":\n     1\tone\n     2\tTWO\n     3\t\nReview the changes and make sure they are as expected. Edit the file again if necessary."
	extras := part(obs, "extras")
	if text(obs, "content") != want || extras["old_content"] != "two" || extras["new_content"] != "TWO" || extras["prev_exist"] != false ||
		extras["diff"] != "--- "+file+"\n+++ "+file+"\n@@ -2 +2 @@\n-two\n+TWO" {
		t.Errorf("str_replace: %v", obs)
	}
	none := edit(object{"command": "str_replace", "old_str": "three", "new_str": "3"})
	if got := text(none, "content"); got != "ERROR:\nNo replacement was performed, old_str `three` did not appear verbatim in "+file+"." {
		t.Errorf("nothing to replace: %q", got)
	}
	if extras := part(none, "extras"); extras["old_content"] != "three" || extras["new_content"] != "3" {
		t.Errorf("%v", extras)
	}
}
