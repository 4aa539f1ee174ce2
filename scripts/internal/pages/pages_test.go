package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fake is a program with the commands a (with b and c under it), help and d.
func fake(args ...string) (string, error) {
	switch key := strings.Join(args, " "); key {
	case "--help":
		return "A program.\n\nUsage:\n  p [command]\n\nGlobal Flags:\n  -v\n", nil
	case "__complete ":
		return "a\tDo a\nhelp\tHelp\nd\tDo d\n:4\n", nil
	case "a --help":
		return "A.\n\nUsage:\n  p a [command]\n\nGlobal Flags:\n  -v\n", nil
	case "__complete a ":
		return "b\tDo b\nc\tDo c\n--flag\tA flag\n:4\n", nil
	case "a b --help", "a c --help", "d --help":
		return strings.TrimSuffix(key, " --help") + ".\n\nGlobal Flags:\n  -v\n", nil
	default:
		return "", errors.New("unexpected: " + key)
	}
}

func TestWriteCommands(t *testing.T) {
	got, err := writeCommands(fake)
	if err != nil {
		t.Fatal(err)
	}
	want := commandsHead + `
## openhands-rt

` + "```\nA program.\n\nUsage:\n  p [command]\n\nGlobal Flags:\n  -v\n```" + `

## openhands-rt a

` + "```\nA.\n\nUsage:\n  p a [command]\n```" + `

## openhands-rt a b

` + "```\na b.\n```" + `

## openhands-rt a c

` + "```\na c.\n```" + `

## openhands-rt d

` + "```\nd.\n```\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

func TestWriteCommandsNamesTheCommandThatFailed(t *testing.T) {
	_, err := writeCommands(func(args ...string) (string, error) {
		if args[0] == "d" {
			return "", errors.New("broken")
		}
		return fake(args...)
	})
	if err == nil || err.Error() != "openhands-rt d --help: broken" {
		t.Errorf("the error is %v", err)
	}
}

func TestFill(t *testing.T) {
	const page = "before\n<!-- made: one -->\nold\n<!-- end -->\nbetween\n<!-- made: two -->\n<!-- end -->\nafter\n"
	got, err := fill([]byte(page), map[string]string{"one": "new\n", "two": "2\n"})
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n<!-- made: one -->\nnew\n<!-- end -->\nbetween\n<!-- made: two -->\n2\n<!-- end -->\nafter\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if _, err := fill([]byte(page), map[string]string{"one": ""}); err == nil || !strings.Contains(err.Error(), `"two"`) {
		t.Errorf("a place that nothing is made for: %v", err)
	}
	if _, err := fill([]byte("nothing"), map[string]string{"one": ""}); err == nil || !strings.Contains(err.Error(), `"one"`) {
		t.Errorf("a part without a place: %v", err)
	}
}
