package skills

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The tests of the package are in Python, as it is.
func TestPython(t *testing.T) {
	python := os.Getenv("TEST_PYTHON")
	if python == "" {
		python, _ = filepath.Abs("../../../bin/python/bin/python3")
	}
	if _, err := os.Stat(python); err != nil {
		t.Skip("there is no Python with ipykernel; → scripts/python")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, Files()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-B", "-W", "error::SyntaxWarning", "tests/test_skills.py")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func TestFilesAreThePackages(t *testing.T) {
	for _, name := range []string{"openhands_rt_skills/__init__.py", "openhands/runtime/plugins/agent_skills/agentskills.py"} {
		if info, err := fs.Stat(Files(), name); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	var bytes int64
	err := fs.WalkDir(Files(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if filepath.Ext(path) != ".py" {
			t.Errorf("%s is no part of the package", path)
		}
		info, err := d.Info()
		bytes += info.Size()
		return err
	})
	if err != nil || bytes > 100<<10 {
		t.Errorf("%d bytes, %v: the agent carries them", bytes, err)
	}
}
