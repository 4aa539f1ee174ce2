package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// crashChildEnv holds the folder, when this test binary runs as the child that is to be killed.
const crashChildEnv = "OPENHANDS_RT_STORE_CRASH_DIR"

// crashChild writes without end, and prints what has been acknowledged.
func crashChild(dir string) {
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: dir, Logger: hclog.NewNullLogger()})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for i := 0; err == nil; i++ {
		id := fmt.Sprintf("r-%d-%d", os.Getpid(), i)
		if _, err = s.SaveRuntime(ctx, runtimeRecord(id), 0); err != nil {
			break
		}
		fmt.Println("runtime", id)
		if _, err = s.Events.Append(ctx, KeyOf(id), []byte(id)); err != nil {
			break
		}
		fmt.Println("event", id)
		if err = s.Actions.PutNow(ctx, Action{ID: "a", RuntimeID: id}); err != nil {
			break
		}
		fmt.Println("action", id)
		if _, err = s.ClaimSID(ctx, "p", id, id); err == nil {
			fmt.Println("sid", id)
		}
	}
	fmt.Println("error", err)
}

// killInTheMiddle runs the child, kills it after so many acknowledged writes, and returns all that it had acknowledged.
func killInTheMiddle(t *testing.T, dir string, after int) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), crashChildEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var acked []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "error") {
			t.Errorf("child: %s", lines.Text())
			break
		}
		acked = append(acked, lines.Text())
		if len(acked) == after {
			if err := child.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	_ = child.Wait() // killed: always an error
	return acked
}

func TestWhatWasAcknowledgedSurvivesKill9(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	for _, after := range []int{1, 50, 333, 1000} {
		acked = append(acked, killInTheMiddle(t, dir, after)...)
		s := openAt(t, dir, Bounds{})
		events, err := s.Events.Read(t.Context(), 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		logged := map[string]bool{}
		for _, e := range events {
			logged[string(e.Data)] = true
		}
		for _, line := range acked {
			kind, id, _ := strings.Cut(line, " ")
			if err := lookFor(t.Context(), s, logged, kind, id); err != nil {
				t.Errorf("acknowledged and lost: %s: %v", line, err)
			}
		}
		closeStore(t, s)
	}
	if len(acked) < 1384 {
		t.Errorf("only %d writes were made", len(acked))
	}
}

func lookFor(ctx context.Context, s *Store, logged map[string]bool, kind, id string) error {
	var err error
	switch kind {
	case "runtime":
		_, err = s.Runtimes.Get(ctx, KeyOf(id))
	case "action":
		_, err = s.Actions.Get(ctx, id, "a")
	case "sid":
		_, err = s.LookupSID(ctx, "p", id)
	case "event":
		if !logged[id] {
			err = fmt.Errorf("not in the log")
		}
	default:
		err = fmt.Errorf("not a line of the child")
	}
	return err
}
