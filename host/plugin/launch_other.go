//go:build !linux

package plugin

import (
	"errors"
	"os/exec"
	"syscall"
)

// prepare has no way here to run a descriptor: between check and start the path is trusted. The lifeline ends the plugin.
func prepare(cmd *exec.Cmd, exe *executable) {
	cmd.Path = exe.path
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

func limitOpenFiles(int, uint64) error { return errors.ErrUnsupported }

// awaitExit cannot wait without reaping here.
func awaitExit(int) error { return errors.ErrUnsupported }
