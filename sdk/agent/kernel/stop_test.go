package kernel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// trigger calls a function once when a text has been written.
type trigger struct {
	mu   sync.Mutex
	on   string
	do   func()
	text strings.Builder
}

func (w *trigger) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if w.do != nil && strings.Contains(w.text.String(), w.on) {
		go w.do()
		w.do = nil
	}
	return len(p), nil
}

// stopped runs a cell and does something when it has said "ready".
func (l *lab) stopped(code string, do func(cancel context.CancelFunc)) Result {
	l.Helper()
	ctx, cancel := context.WithCancel(l.Context())
	defer cancel()
	res, err := l.Execute(ctx, Cell{Code: code}, &trigger{on: "ready", do: func() { do(cancel) }})
	if err != nil {
		l.Fatal(err)
	}
	return res
}

const endless = "import time\nprint('ready', flush=True)\nwhile True: time.sleep(0.01)"

func TestTheEndOfTheContextInterruptsTheCell(t *testing.T) {
	l := newLab(t)
	l.code("x = 1")
	for _, code := range []string{endless, "!echo ready; sleep 1000", "print('ready', flush=True)\nwhile True: pass",
		"import subprocess; print('ready', flush=True); subprocess.run(['sleep', '1000'])"} {
		res := l.stopped(code, func(cancel context.CancelFunc) { cancel() })
		if res.End != Stopped {
			t.Errorf("%q has ended as %d", code, res.End)
		}
		if !strings.HasPrefix(code, "!") {
			l.find(res.Text, "ready\n", "KeyboardInterrupt")
		}
	}
	l.expect([2]string{"x", "1"})
}

func TestTheCellMayTakeItsTimeToStop(t *testing.T) {
	l := newLab(t)
	res := l.stopped("try:\n    "+strings.ReplaceAll(endless, "\n", "\n    ")+"\nexcept KeyboardInterrupt:\n    print('saved')",
		func(cancel context.CancelFunc) { cancel() })
	if res.Text != "ready\nsaved\n" || res.End != Stopped {
		t.Errorf("%d, %q", res.End, res.Text)
	}
}

func TestKillEndsTheKernelUnderTheCell(t *testing.T) {
	l := newLab(t)
	l.code("x = 1")
	kill := make(chan struct{})
	out := &trigger{on: "ready", do: func() { close(kill) }}
	res, err := l.Execute(t.Context(), Cell{Code: endless, Kill: kill}, out)
	if err != nil || res.End != Died || res.Death != "signal: killed" || res.Text != "ready\n" {
		t.Errorf("%v, %d, %q, %q", err, res.End, res.Death, res.Text)
	}
	l.find(l.code("x"), "NameError")
}

func TestACellThatTakesNoNoticeIsLeftAndDoesNotBlockTheNext(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the patience with such a cell")
	}
	l := newLab(t)
	l.code("x = 1\nimport signal")
	const deaf = "import time\nsignal.signal(signal.SIGINT, lambda *_: None)\nprint('ready', flush=True)\nwhile True: time.sleep(0.01)"
	if res := l.stopped(deaf, func(cancel context.CancelFunc) { cancel() }); res.End != Left || res.Text != "ready\n" {
		t.Errorf("it has ended as %d: %q", res.End, res.Text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if res := l.runIn(ctx, Cell{Code: "1"}); res.End != NotBegun {
		t.Errorf("the next has ended as %d", res.End)
	}
	res := l.run(Cell{Code: "'x' in globals()"})
	if res.Text != "False" || !res.Lost {
		t.Errorf("%q, lost %v", res.Text, res.Lost)
	}
}

func TestACellThatWaitsCanBeTakenBack(t *testing.T) {
	l := newLab(t)
	l.code("1")
	var inner Result
	res := l.stopped(endless, func(cancel context.CancelFunc) {
		gone, stop := context.WithCancel(context.Background())
		stop()
		inner, _ = l.Execute(gone, Cell{Code: "1"}, io.Discard)
		cancel()
	})
	if res.End != Stopped || inner.End != NotBegun || inner.Text != "" {
		t.Errorf("%d, %d", res.End, inner.End)
	}
}

func TestDeathInACellIsToldAndStateIsLost(t *testing.T) {
	l := newLab(t)
	l.code("x = 1")
	for code, how := range map[string]string{
		"import os, signal; print('last', flush=True); os.kill(os.getpid(), signal.SIGKILL)": "signal: killed",
		"import os; print('last', flush=True); os._exit(7)":                                  "exit status 7",
		"import ctypes; print('last', flush=True); ctypes.string_at(0)":                      "signal: segmentation fault",
	} {
		res := l.run(Cell{Code: code})
		// What was on its way when it died may be lost.
		if res.End != Died || res.Text != "last\n" && res.Text != "" || !strings.HasPrefix(res.Death, how) {
			t.Errorf("%s: %d, %q, %q", code, res.End, res.Text, res.Death)
		}
		if res = l.run(Cell{Code: "'x' in globals()"}); res.Text != "False" || res.Lost {
			t.Errorf("after %s: %q, lost %v though its death was told", code, res.Text, res.Lost)
		}
	}
}

func TestDeathBetweenCellsIsToldByTheNext(t *testing.T) {
	l := newLab(t)
	l.code("import os, threading")
	first := l.starting.in
	l.code("threading.Timer(0.05, lambda: os._exit(1)).start()")
	<-first.drained
	if res := l.run(Cell{Code: "1"}); res.Text != "1" || !res.Lost {
		t.Errorf("%q, lost %v", res.Text, res.Lost)
	}
	if res := l.run(Cell{Code: "1"}); res.Lost {
		t.Error("it is told twice")
	}
	second := l.starting.in
	l.code("exit")
	<-second.drained
	if res := l.run(Cell{Code: "1"}); !res.Lost {
		t.Error("after exit nothing is told")
	}
}

func TestADeadKernelsChildrenDoNotHoldUpTheNext(t *testing.T) {
	l := newLab(t)
	res := l.run(Cell{Code: "import os, time\npid = os.fork()\nif pid == 0:\n    time.sleep(1000)\nos._exit(0)"})
	if res.End != Died {
		t.Errorf("it has ended as %d", res.End)
	}
	l.expect([2]string{"1", "1"})
}

func TestCloseWhileACellRuns(t *testing.T) {
	l := newLab(t)
	closed := make(chan error, 1)
	res := l.stopped(endless, func(context.CancelFunc) { closed <- l.Close(context.Background()) })
	if err := <-closed; err != nil || res.End != Died {
		t.Errorf("%v, ended as %d", err, res.End)
	}
}

// However the agent dies: its end of the pipe closes with it.
func TestTheKernelEndsWithItsAgent(t *testing.T) {
	l := newLab(t)
	l.code("import subprocess; p = subprocess.Popen(['sleep', '1000'])") // It must not hold the pipe.
	in := l.starting.in
	if err := in.child.life.Close(); err != nil {
		t.Fatal(err)
	}
	<-in.drained
	if state := in.child.state(); state != "exit status 1" {
		t.Errorf("it ended: %s", state)
	}
	if n, err := l.cfg.Tree.Kill(); n != 1 || err != nil { // What it has started is the sandbox's.
		t.Errorf("%d processes were left, %v", n, err)
	}
}

func TestCloseWhileItStarts(t *testing.T) {
	l := newLab(t)
	l.Warm(l.cfg.Workspace)
	if err := l.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAFrozenTreeIsNoDeath(t *testing.T) {
	l := newLab(t)
	l.code("x = 1")
	if err := l.cfg.Tree.Freeze(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	done := make(chan Result, 1)
	go func() {
		res, err := l.Execute(context.Background(), Cell{Code: "x"}, &out)
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	if err := l.cfg.Tree.Thaw(); err != nil {
		t.Fatal(err)
	}
	if res := <-done; res.Text != "1" || res.End != Completed {
		t.Errorf("%d, %q", res.End, res.Text)
	}
}

// What speaks to the sockets itself, past the launcher, must not take the agent's memory nor be believed.
func TestAHostileKernelIsEnded(t *testing.T) {
	const sock = "from ipykernel.kernelapp import IPKernelApp\ns = IPKernelApp.instance().iopub_thread.socket\n"
	for name, code := range map[string]string{
		"a huge frame":        sock + "s.send(bytes(64 * 2**20))",
		"many frames":         sock + "s.send_multipart([b'x'] * 1000)",
		"frames without sign": sock + "s.send_multipart([b'stream', b'<IDS|MSG>', b'0' * 64, b'{}', b'{}', b'{}', b'{}'])",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.code("x = 1")
			res := l.run(Cell{Code: code + "\nimport time; time.sleep(1000)"})
			if res.End != Died {
				t.Errorf("it has ended as %d", res.End)
			}
			l.expect([2]string{"'x' in globals()", "False"})
		})
	}
	t.Run("noise", func(t *testing.T) {
		l := newLab(t)
		l.expect([2]string{sock + "s.send_multipart([b'x', b'y']); s.send(b''); print('still there')", "still there\n"})
		l.find(l.code("from IPython.display import publish_display_data as p\np({'text/plain': 5, 'image/png': ['x']}); p({'text/plain': ['a', 'b']})"), "")
		l.expect([2]string{"from comm import create_comm; c = create_comm(target_name='x'); c.send({'a': 1}); print(2)", "2\n"})
	})
}

func TestManyStartsLeaveNothing(t *testing.T) {
	l := newLab(t)
	for range 5 {
		if res := l.run(Cell{Code: "import os; os._exit(0)"}); res.End != Died {
			t.Errorf("it has ended as %d", res.End)
		}
	}
	pids, err := l.cfg.Tree.Pids()
	if err != nil || len(pids) > 0 {
		t.Error(errors.Join(err, errors.New("processes are left")), pids)
	}
}
