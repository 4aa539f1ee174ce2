package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// executable is a program that was opened, read and accepted. What runs is this file, whatever its path names by then.
type executable struct {
	file   *os.File
	path   string
	sha256 string
	script bool
}

// openExecutable finds the program of a spec and checks its digest. The caller closes file.
func openExecutable(spec Spec) (*executable, error) {
	op := "launch plugin " + spec.Backend
	path, err := findProgram(spec.Command[0])
	if err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, op, "%v", err).WithField("backends." + spec.Backend + ".command").
			WithRemedy("build the plugin, put it beside openhands-rt or into PATH, or name its path").WithCause(err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, rterr.New(rterr.ConfigInvalid, op, "%v", err).WithField("backends." + spec.Backend + ".command").WithCause(err)
	}
	e := &executable{file: file, path: path}
	if err := e.read(); err != nil {
		return nil, errors.Join(rterr.Wrap(rterr.ConfigInvalid, op, err), file.Close())
	}
	if spec.SHA256 != "" && spec.SHA256 != e.sha256 {
		_ = file.Close()
		return nil, rterr.New(rterr.Integrity, op, "%s is not the program that the config pins", path).
			With("sha256_pinned", spec.SHA256).With("sha256_found", e.sha256)
	}
	return e, nil
}

func (e *executable) read() error {
	info, err := e.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return rterr.New(rterr.ConfigInvalid, "", "%s is no executable file (mode %s)", e.path, info.Mode())
	}
	digest := sha256.New()
	var head [2]byte
	n, err := io.ReadFull(e.file, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	e.script = string(head[:n]) == "#!"
	digest.Write(head[:n])
	if _, err := io.Copy(digest, e.file); err != nil {
		return err
	}
	e.sha256 = hex.EncodeToString(digest.Sum(nil))
	return nil
}

// findProgram returns the absolute path of a program: as given if it has a slash, else beside this binary, else in PATH.
func findProgram(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return filepath.Abs(name)
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
