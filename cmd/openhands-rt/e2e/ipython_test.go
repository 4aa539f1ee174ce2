package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withPython is a daemon whose sandboxes have kernels.
func withPython(t *testing.T) *daemon {
	t.Helper()
	python, err := filepath.Abs("../../../bin/python/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		t.Skip("there is no Python with ipykernel; → scripts/python")
	}
	d := newDaemon(t, "backends:\n  local: {plugin: local, config: {python: "+python+"}}\n")
	d.start()
	return d
}

const extraLines = "\n[Jupyter current working directory: /workspace]\n[Jupyter Python interpreter: "

func TestPoint17JupyterTextAndInterpreterLine(t *testing.T) {
	t.Parallel()
	o := withPython(t).remote()
	s := o.begin("s1")
	cell := func(code string) (object, string) {
		t.Helper()
		obs := s.action("run_ipython", object{"code": code}, 120)
		extras, _ := obs["extras"].(object)
		if obs["success"] != true || obs["observation"] != "run_ipython" || extras["code"] != code || obs["message"] != "Code executed in IPython cell." {
			t.Errorf("%s: %v", code, obs)
		}
		return extras, text(obs, "content")
	}
	_, content := cell("print(1)")
	before, python, _ := strings.Cut(content, extraLines)
	python = strings.TrimSuffix(python, "]")
	if before != "1" || !filepath.IsAbs(python) || filepath.Base(python) != "python" {
		t.Errorf("%q", content)
	}
	_, content = cell("import sys; print(sys.executable)")
	if content != python+extraLines+python+"]" {
		t.Errorf("%q", content)
	}
	extras, content := cell("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
	images, _ := extras["image_urls"].([]any)
	if len(images) != 1 || !strings.HasPrefix(images[0].(string), "data:image/png;base64,") || !strings.HasPrefix(content, "<Figure size 640x480 with 1 Axes>\n") {
		t.Errorf("%d images, %q", len(images), content)
	}
	if extras, content = cell("x = 1"); !strings.HasPrefix(content, "[Code executed successfully with no output]\n") || extras["image_urls"] != nil {
		t.Errorf("%q, %v", content, extras["image_urls"])
	}
	s.run("cd /tmp")
	if _, content = cell("import os; print(os.getcwd())"); !strings.HasPrefix(content, "/tmp\n[Jupyter current working directory: /tmp]\n") {
		t.Errorf("%q", content)
	}
	if _, content = cell("search_dir.__module__, file_editor.__module__"); !strings.HasPrefix(content, "('openhands_rt_skills.search', 'openhands_rt_skills.editor')") {
		t.Errorf("%q", content)
	}
	obs := s.action("run_ipython", object{"code": "import time; time.sleep(60)", "include_extra": false}, 0.5)
	if text(obs, "content") != "[Execution timed out (0.5 seconds).]" {
		t.Errorf("%v", obs)
	}
	obs = s.action("run_ipython", object{"code": "import os; os._exit(1)"}, 60)
	if obs["observation"] != "error" || !strings.Contains(text(obs, "content"), "The kernel died while the cell ran: exit status 1.") {
		t.Errorf("%v", obs)
	}
	if _, content = cell("'x' in globals()"); !strings.HasPrefix(content, "False\n") {
		t.Errorf("%q", content)
	}
	o.call(http.MethodPost, "/stop", object{"runtime_id": s.id})
}

func TestWithoutTheFeatureThereIsNoKernel(t *testing.T) {
	t.Parallel()
	o := withPython(t).remote()
	body := startBody("s1")
	var command []string
	for _, word := range serverCommand() {
		if word != "jupyter" {
			command = append(command, word)
		}
	}
	body["command"] = command
	code, started := o.call(http.MethodPost, "/start", body)
	if code != http.StatusOK {
		t.Fatal(code, started)
	}
	s := &session{t: t, id: text(started, "runtime_id"), url: text(started, "url"), key: text(started, "session_api_key"), client: &http.Client{}}
	o.waitReady(s)
	code, answer := s.post("/execute_action", event("run_ipython", object{"code": "1"}))
	if want := `{"detail":"Internal server error: JupyterRequirement not found. Unable to run IPython action."}`; code != http.StatusInternalServerError || answer != want {
		t.Errorf("%d %s", code, answer)
	}
}
