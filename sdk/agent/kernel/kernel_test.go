package kernel

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestStateLivesFromCellToCell(t *testing.T) {
	l := newLab(t)
	l.expect(
		[2]string{"x = 20", noOutput},
		[2]string{"x + 1", "21"},
		[2]string{"print('a'); print('b', end='')", "a\nb"},
		[2]string{"import sys; print('err', file=sys.stderr)", "err\n"},
		[2]string{"print(1); 'two'", "1\n'two'"},
		[2]string{"", noOutput},
		[2]string{"# only a comment", noOutput},
		[2]string{"!echo from a shell", "from a shell\r\n"},
		[2]string{"import os; os.write(1, b'low level\\n'); None", "low level\n"},
		[2]string{"print('ä€😀')", "ä€😀\n"},
		[2]string{"print('\\x1b[31mred\\x1b[0m \\x1b[2Kplain')", "red \x1b[2Kplain\n"},
	)
	res := l.run(Cell{Code: "import sys; print(sys.executable)"})
	if want := filepath.Join(l.cfg.Venv, "bin", "python"); l.Python() != want || res.Text != want+"\n" {
		t.Errorf("the interpreter is %q and says %q, not %q", l.Python(), res.Text, want)
	}
}

func TestAnExceptionIsText(t *testing.T) {
	l := newLab(t)
	text := l.code("def f():\n    return 1/0\nprint('before')\nf()")
	l.find(text, "before\n", "Traceback (most recent call last)", "return 1/0", "ZeroDivisionError: division by zero")
	if strings.Contains(text, "\x1b") {
		t.Errorf("it has colours: %q", text)
	}
	l.find(l.code("def broken(:"), "SyntaxError")
	l.find(l.code("input('name? ')"), "StdinNotImplementedError")
	l.find(l.code("import getpass; getpass.getpass()"), "StdinNotImplementedError")
	l.find(l.code("raise SystemExit(3)"), "SystemExit: 3")
	l.expect([2]string{"1", "1"})
}

func TestAPagerIsOutput(t *testing.T) {
	l := newLab(t)
	l.find(l.code("len?"), "Return the number of items in a container.")
}

const red = `iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==`

func TestImages(t *testing.T) {
	l := newLab(t)
	res := l.run(Cell{Code: "from IPython.display import Image, display\nimport base64\n" +
		"display(Image(base64.b64decode('" + red + "')))\nImage(base64.b64decode('" + red + "'))"})
	want := "data:image/png;base64," + red
	if len(res.Images) != 2 || res.Images[0] != want || res.Images[1] != want {
		t.Errorf("images are %q", res.Images)
	}
	l.find(res.Text, "<IPython.core.display.Image object>")
	big := l.run(Cell{Code: "import os\nfor n in (2, 3, 1): display(Image(b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom(n * 2**20), format='png'))"})
	if len(big.Images) != 1 {
		t.Errorf("%d images were kept", len(big.Images))
	}
	if strings.Count(big.Text, "was left out") != 2 {
		t.Errorf("what was left out is not told: %q", big.Text)
	}
	huge := l.run(Cell{Code: "display(Image(b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom(20 * 2**20), format='png'))"})
	l.find(huge.Text, "[An image of 20971", "was left out.]")
	if huge.End != Completed || huge.Images != nil {
		t.Errorf("%d, %d images", huge.End, len(huge.Images))
	}
}

func TestAPlot(t *testing.T) {
	l := newLab(t)
	res := l.run(Cell{Code: "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"})
	if len(res.Images) != 1 {
		t.Fatalf("%d images: %q", len(res.Images), res.Text)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(res.Images[0], "data:image/png;base64,"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil || img.Bounds().Dx() < 100 {
		t.Errorf("no picture of a plot: %v", err)
	}
	l.find(res.Text, "<Figure size 640x480 with 1 Axes>")
}

func TestTheFolderFollowsTheShellAndNotTheOtherWay(t *testing.T) {
	l := newLab(t)
	a, b := t.TempDir(), filepath.Join(t.TempDir(), "mit 'Ä' \xff")
	if err := os.Mkdir(b, 0o700); err != nil {
		t.Fatal(err)
	}
	at := func(shell, want string) {
		t.Helper()
		got := l.run(Cell{Code: "import os; print(os.fsencode(os.getcwd()).hex(), end='')", Dir: shell}).Text
		if got != hex.EncodeToString([]byte(want)) {
			t.Errorf("with the shell in %q the kernel is in %s, not in %q", shell, got, want)
		}
	}
	at(l.cfg.Workspace, l.cfg.Workspace)
	at(a, a)
	l.code("os.chdir('/')")
	at(a, "/")
	at(b, b)
	at("", b)
	at(a, a)
	at(filepath.Join(a, "gone"), a)
}

func TestInitIsRunOnceInEachKernel(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Init = "from greeting import hello; print('not shown')"
		c.Packages = map[string]fs.FS{"extra": fstest.MapFS{"greeting/__init__.py": {Data: []byte("def hello(): return 'hello'\n"), Mode: 0o644}}}
	})
	l.expect([2]string{"hello()", "'hello'"})
	l2 := newLab(t, func(c *Config) { c.Init = "1/0" })
	l2.expect([2]string{"2", "2"})
	const count = "n = globals().get('n', 0) + 1; print('not shown')"
	for range 2 {
		if got := l.run(Cell{Code: "n", Init: count}).Text; got != "1" {
			t.Errorf("n is %q", got)
		}
	}
	if got := l.run(Cell{Code: "2", Init: "1/0"}).Text; !strings.Contains(got, "ZeroDivisionError") || !strings.HasSuffix(got, "\n2") {
		t.Errorf("a failed init code: %q", got)
	}
	l.run(Cell{Code: "import os; os._exit(0)"})
	if got := l.run(Cell{Code: "hello(), n", Init: count}).Text; got != "('hello', 1)" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestPipInstallsIntoTheRuntimesOwnEnvironment(t *testing.T) {
	l := newLab(t)
	wheel := smallWheel(t)
	l.find(l.code("import small_thing"), "ModuleNotFoundError")
	l.find(l.code("%pip install --no-index "+wheel), "Successfully installed small-thing-1.0")
	l.expect([2]string{"import small_thing; small_thing.answer", "42"})
	l.find(l.code("small_thing.__file__"), l.cfg.Venv)
	l.find(l.code("!pip list --disable-pip-version-check"), "small-thing", "ipykernel")
	l.run(Cell{Code: "import os; os._exit(0)"})
	l.expect([2]string{"import small_thing; small_thing.answer", "42"})
}

// smallWheel is a package of pure Python.
func smallWheel(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "small_thing-1.0-py3-none-any.whl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	const info = "small_thing-1.0.dist-info/"
	for _, file := range [][2]string{
		{"small_thing.py", "answer = 42\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: small-thing\nVersion: 1.0\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", "small_thing.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		part, err := w.Create(file[0])
		if err == nil {
			_, err = io.WriteString(part, file[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMuchOutputIsCutAndComesWhole(t *testing.T) {
	l := newLab(t)
	var out counter
	res, err := l.Execute(t.Context(), Cell{Code: "for i in range(200_000): print(f'{i:099d}')"}, &out)
	if err != nil || res.End != Completed {
		t.Fatalf("%v, %d", err, res.End)
	}
	if out.n != 20_000_000 {
		t.Errorf("%d bytes came, not 20,000,000", out.n)
	}
	half := strings.Split(res.Text, truncated)
	if len(half) != 2 || len(half[0]) != halfText || len(half[1]) != halfText {
		t.Fatalf("the text is not cut in the middle: %d bytes", len(res.Text))
	}
	if !strings.HasSuffix(half[1], "199999\n") || !strings.HasPrefix(half[0], "000") {
		t.Errorf("it has not both ends")
	}
	for _, one := range []string{"print('x' * 50_000_000)", "'x' * 50_000_000", "raise ValueError('x' * 50_000_000)",
		"import os; n = os.write(1, b'x' * 5_000_000)"} {
		res, err := l.Execute(t.Context(), Cell{Code: one}, io.Discard)
		if err != nil || res.End != Completed || len(res.Text) > 2*halfText+len(truncated) || len(res.Text) < halfText {
			t.Errorf("%s: %v, ended as %d with %d bytes", one, err, res.End, len(res.Text))
		}
	}
	l.expect([2]string{"1", "1"})
}

type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

func TestCellsRunOneAfterTheOther(t *testing.T) {
	l := newLab(t)
	l.code("n = 0")
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { l.run(Cell{Code: "m = n\nfor _ in range(1000): pass\nn = m + 1"}) })
	}
	all.Wait()
	l.expect([2]string{"n", "10"})
}

func TestOutputOfAnEarlierCellsThreadIsNotTheNextOnes(t *testing.T) {
	l := newLab(t)
	l.code("import threading\ngo = threading.Event()\nsaid = threading.Event()\n" +
		"def late():\n    go.wait()\n    print('late')\n    said.set()\nthreading.Thread(target=late).start()")
	if text := l.code("go.set(); said.wait(); print('now')"); !strings.Contains(text, "now\n") {
		t.Errorf("%q", text)
	}
}

func TestWithoutPythonTheErrorSaysWhatToDo(t *testing.T) {
	empty := t.TempDir()
	for name, change := range map[string]func(*Config){
		"no python3": func(c *Config) { c.Python, c.Env = "", []string{"PATH=" + empty} },
		"no ipykernel": func(c *Config) {
			plain := filepath.Join(t.TempDir(), "plain")
			plainPython(t, c.Python, plain)
			c.Python = filepath.Join(plain, "python3")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, change)
			for range 2 { // It is tried anew.
				_, err := l.Execute(t.Context(), Cell{Code: "1"}, io.Discard)
				e := rterr.From(err)
				if e == nil || e.Reason != rterr.Unsupported || e.Ran != rterr.RanNo || !strings.Contains(e.Remedy, "scripts/python") {
					t.Fatalf("%+v", e)
				}
			}
		})
	}
}

// plainPython makes a folder with the interpreter behind an environment alone, without the environment's packages.
func plainPython(t *testing.T, python, dir string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(python)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = os.Symlink(real, filepath.Join(dir, "python3"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewRefusesWhatCannotBe(t *testing.T) {
	good := testConfig(t)
	for field, change := range map[string]func(*Config){
		"Dir": func(c *Config) { c.Dir = "x" }, "Venv": func(c *Config) { c.Venv = "" }, "Tree": func(c *Config) { c.Tree = nil },
		"Python": func(c *Config) { c.Python = "python3" }, "Workspace": func(c *Config) { c.Workspace = "" },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); rterr.From(err).Field != field || !rterr.Is(err, rterr.ConfigInvalid) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestCloseIsTheEnd(t *testing.T) {
	l := newLab(t)
	l.Warm(l.cfg.Workspace)
	l.code("import subprocess; p = subprocess.Popen(['sleep', '1000'])")
	for range 2 {
		if err := l.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if pids, err := l.cfg.Tree.Pids(); err != nil || len(pids) > 0 {
		t.Errorf("left behind: %v, %v", pids, err)
	}
	_, err := l.Execute(t.Context(), Cell{Code: "1"}, io.Discard)
	if !rterr.Is(err, rterr.Unavailable) {
		t.Errorf("after Close: %v", err)
	}
	l.Warm(l.cfg.Workspace)
}

func TestWhatIsWrittenToDirIsPrivate(t *testing.T) {
	l := newLab(t)
	l.code("1")
	err := filepath.WalkDir(l.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if path == l.cfg.Dir && info.Mode().Perm() != 0o700 || filepath.Base(path) == connectionFile && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if text := l.code("import os; print(sorted(k for k in os.environ if 'KEY' in k))"); text != "[]\n" {
		t.Errorf("the environment has %s", text)
	}
}
