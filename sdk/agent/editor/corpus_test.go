package editor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
)

// scenario is one entry of the corpus: what is in the workspace, the actions, their observations as documented, and what is in the
// workspace then. $W stands for the workspace.
type scenario struct {
	Name, Kind string
	// Files by their text, Base64 by their bytes, Links by their targets; Chmod are octal modes.
	Files, Base64, Links, Chmod map[string]string
	Dirs                        []string
	// Cd is where the shell goes first.
	Cd    string
	Steps []struct{ Args, Want json.RawMessage }
	// After are all files, if given; Modes of some of them.
	After, Modes map[string]string
}

func TestCorpus(t *testing.T) {
	for _, kind := range []string{action.KindRead, action.KindWrite, action.KindEdit} {
		raw, err := os.ReadFile("testdata/" + kind + ".json")
		must(t, err)
		var all []scenario
		must(t, json.Unmarshal(raw, &all))
		if len(all) < 15 {
			t.Errorf("%s: only %d", kind, len(all))
		}
		for _, s := range all {
			t.Run(kind+"/"+s.Name, func(t *testing.T) { s.run(t) })
		}
	}
}

func (s scenario) run(t *testing.T) {
	l := newLab(t)
	s.furnish(t, l.workspace)
	if s.Cd != "" {
		l.do(action.KindRun, action.Run{Command: "cd " + s.Cd})
	}
	for i, step := range s.Steps {
		args := json.RawMessage(strings.ReplaceAll(string(step.Args), "$W", l.workspace))
		o := l.do(s.Kind, args)
		var got, want any
		must(t, json.Unmarshal(o.GetPayload(), &got))
		must(t, json.Unmarshal([]byte(strings.ReplaceAll(string(step.Want), "$W", l.workspace)), &want))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("step %d: (-want +got)\n%s", i, d)
		}
	}
	s.inspect(t, l.workspace)
}

func (s scenario) furnish(t *testing.T, dir string) {
	t.Helper()
	put := func(name string, data []byte) {
		must(t, os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755))
		must(t, os.WriteFile(dir+"/"+name, data, 0o644))
	}
	for name, text := range s.Files {
		put(name, []byte(text))
	}
	for name, text := range s.Base64 {
		data, err := base64.StdEncoding.DecodeString(text)
		must(t, err)
		put(name, data)
	}
	for _, name := range s.Dirs {
		must(t, os.MkdirAll(dir+"/"+name, 0o755))
	}
	for name, to := range s.Links {
		must(t, os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755))
		must(t, os.Symlink(to, dir+"/"+name))
	}
	for name, octal := range s.Chmod {
		mode, err := strconv.ParseUint(octal, 8, 32)
		must(t, err)
		must(t, os.Chmod(dir+"/"+name, fs.FileMode(mode)))
	}
}

func (s scenario) inspect(t *testing.T, dir string) {
	t.Helper()
	if s.After != nil {
		if d := cmp.Diff(s.After, regular(t, dir)); d != "" {
			t.Errorf("files: (-want +got)\n%s", d)
		}
	}
	for name, want := range s.Modes {
		info, err := os.Stat(dir + "/" + name)
		must(t, err)
		if got := fmt.Sprintf("%o", info.Mode().Perm()); got != want {
			t.Errorf("%s has mode %s, want %s", name, got, want)
		}
	}
}

// regular are the regular files under a folder, by their texts.
func regular(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		out[name], err = beginning(p)
		return err
	}))
	return out
}

// beginning of a file, which may be larger than any memory.
func beginning(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(text), err
}

// do runs an action to its end.
func (l *lab) do(kind string, payload any) *agentv1.Observation {
	l.Helper()
	raw, err := json.Marshal(payload)
	must(l, err)
	var o *agentv1.Observation
	err = l.engine.Execute(context.Background(), &agentv1.ExecuteRequest{Action: &agentv1.Action{Kind: kind, Payload: raw}},
		func(ev *agentv1.ActionEvent) error {
			o = ev.GetObservation()
			return nil
		})
	must(l, err)
	return o
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
