package openhands

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func specOf(body string) (map[string]string, []string, map[string]string, bool, error) {
	var s startRequest
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		return nil, nil, nil, false, err
	}
	spec, err := s.spec()
	return spec.GetEnv(), spec.GetFeatures(), spec.GetLabels(), spec.GetHeadlessMode(), err
}

const v0Command = `["python","-m","openhands.runtime.action_execution_server","60000","--working-dir","/w","--plugins","jupyter","vscode"]`

func TestWhatAStartAsksFor(t *testing.T) {
	env, features, labels, headless, err := specOf(`{"image": "img", "command": ` + v0Command + `,
		"environment": {"A": "b", "N": 12000, "T": true, "NULL": null, "EMPTY": "", "NO_CHANGE_TIMEOUT_SECONDS": "30"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"A": "b", "N": "12000", "T": "true", "EMPTY": "", noChangeVariable: "30"}; !maps.Equal(env, want) {
		t.Errorf("env %v, want %v", env, want)
	}
	if !slices.Equal(features, []string{"jupyter", "vscode"}) || headless {
		t.Errorf("features %v, headless %v", features, headless)
	}
	if labels[labelDoor] != doorV0 || labels[labelWorkingDir] != "/w" || labels[labelImage] != "img" || !strings.HasSuffix(labels[labelCommand], "vscode") {
		t.Errorf("labels %v", labels)
	}
}

func TestAStartWithoutMuch(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": `{}`, "nulls": `{"command": null, "environment": null, "image": null}`, "no plugins": `{"command": "python -m openhands.runtime.action_execution_server 60000"}`,
	} {
		t.Run(name, func(t *testing.T) {
			env, features, labels, headless, err := specOf(body)
			if err != nil || env[noChangeVariable] != "10" || len(features) > 0 || !headless || labels[labelDoor] != doorV0 {
				t.Errorf("%v %v %v %v %v", env, features, labels, headless, err)
			}
		})
	}
}

func TestAnotherCommandIsKeptAndNotRun(t *testing.T) {
	for _, command := range []string{`"/usr/local/bin/openhands-agent-server --port 60000"`, `["/agent-server/.venv/bin/python","-m","openhands.agent_server"]`} {
		_, features, labels, _, err := specOf(`{"command": ` + command + `}`)
		if err != nil || len(features) > 0 || labels[labelDoor] != doorOther || labels[labelCommand] == "" {
			t.Errorf("%v %v %v", features, labels, err)
		}
	}
}

func TestWhatNoStartCanHave(t *testing.T) {
	for name, body := range map[string]string{
		"a plugin that is not there":      `{"command": ["python","-m","openhands.runtime.action_execution_server","1","--plugins","fly"]}`,
		"a command that is none":          `{"command": {"a": 1}}`,
		"a port that is none":             `{"command": "python -m openhands.runtime.action_execution_server --port x"}`,
		"a quote that does not end":       `{"command": "python 'x"}`,
		"a variable with an equals sign":  `{"environment": {"A=B": "x"}}`,
		"a variable without a name":       `{"environment": {"": "x"}}`,
		"a variable with a NUL":           `{"environment": {"A": "x\u0000y"}}`,
		"a variable that is an object":    `{"environment": {"A": {}}}`,
		"a variable that is a list":       `{"environment": {"A": ["x"]}}`,
		"a name of a variable with a NUL": `{"environment": {"A\u0000": "x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, _, err := specOf(body); !rterr.Is(err, rterr.InvalidArgument) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLongNamesAreCut(t *testing.T) {
	_, _, labels, _, err := specOf(`{"image": "` + strings.Repeat("é", maxLabel) + `"}`)
	if err != nil || len(labels[labelImage]) > maxLabel || !strings.HasPrefix(labels[labelImage], "éé") {
		t.Errorf("%d bytes, %v", len(labels[labelImage]), err)
	}
}

func FuzzStart(f *testing.F) {
	f.Add(`{"image": "i", "command": ` + v0Command + `, "environment": {"A": "b"}, "session_id": "s"}`)
	f.Add(`{"command": "a 'b' $(c)", "environment": {"A": 1, "B": null, "C": "\u0000"}}`)
	f.Add(`{"command": [], "environment": {}}`)
	f.Fuzz(func(t *testing.T, body string) {
		env, _, labels, _, err := specOf(body)
		if err != nil {
			return
		}
		for name, value := range env {
			if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
				t.Errorf("variable %q is %q", name, value)
			}
		}
		if len(labels[labelCommand]) > maxLabel || labels[labelDoor] == "" {
			t.Errorf("labels %v", labels)
		}
	})
}
