package emulator

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// guardScript waits until nobody holds the other end of its standard input, and removes the folder. Devboxes that died with us may
// need a moment to let go of it.
const guardScript = `while read -r _; do :; done; for _ in 1 2 3 4 5 6 7 8; do rm -rf -- "$1" 2>/dev/null && exit; read -rt 0.3 _ <><(:); done`

// folder holds the disks. A guard removes it when this process ends without doing so: a shell that waits for the end of a pipe.
type folder struct {
	path  string
	guard *os.Process
	alive *os.File
}

func makeFolder(parent string) (*folder, error) {
	if parent != "" {
		if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // Users of devboxes, others than ours, read below it.
			return nil, rterr.New(rterr.ConfigInvalid, "start the emulator", "%v", err).WithRemedy("choose another folder: --data-dir")
		}
	}
	path, err := os.MkdirTemp(parent, "runloop-emulator-*")
	if err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, "start the emulator", "%v", err).WithRemedy("choose another folder: --data-dir")
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, rterr.Wrap(rterr.Internal, "start the emulator", err)
	}
	f := &folder{path: path}
	if err := f.watch(); err != nil {
		f.remove()
		return nil, err
	}
	return f, nil
}

// watch starts the guard, in a session of its own so that no terminal's signal ends it.
func (f *folder) watch() error {
	r, w, err := os.Pipe()
	if err != nil {
		return rterr.Wrap(rterr.Internal, "start the emulator", err)
	}
	guard := exec.Command("/bin/bash", "-c", guardScript, "emulator-guard", f.path) //nolint:gosec // The script is our own.
	guard.Stdin = r
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = guard.Start()
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return rterr.Wrap(rterr.Internal, "start the emulator", err)
	}
	f.guard, f.alive = guard.Process, w
	return nil
}

// remove removes the folder and ends the guard. Nil has nothing to remove.
func (f *folder) remove() {
	if f == nil {
		return
	}
	_ = os.RemoveAll(f.path)
	if f.alive != nil {
		_ = f.alive.Close()
		_, _ = f.guard.Wait()
		f.alive = nil
	}
}
