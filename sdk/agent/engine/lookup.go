package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// workDir is the folder of a process: absolute, or relative to the workspace.
func workDir(workspace, cwd string) (string, error) {
	if !filepath.IsAbs(cwd) {
		cwd = filepath.Join(workspace, cwd)
	}
	info, err := os.Stat(cwd)
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return "", startError("no such working directory", err).WithField("action.payload.cwd").With("cwd", printable(cwd))
	}
	return cwd, nil
}

// printable is a path that may stand in a message.
func printable(path string) string { return strings.ToValidUTF8(path, "\uFFFD") }

// environment is base with extra on top, the last of a name counting.
func environment(base []string, extra map[string]string) []string {
	env := slices.DeleteFunc(slices.Clone(base), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := extra[name]
		return replaced
	})
	names := make([]string, 0, len(extra))
	for name := range extra {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		env = append(env, name+"="+extra[name])
	}
	return env
}

// defaultPath is what execvp takes where there is no PATH.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// lookPath finds a program as execvp does in that environment and folder: absolute, or by PATH.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		if err := executable(name); err != nil {
			return "", startError("cannot run the program", err).WithField("action.payload.argv").With("program", printable(name))
		}
		return name, nil
	}
	path := defaultPath
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = value
		}
	}
	found := fs.ErrNotExist
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		candidate := filepath.Join(folder, name)
		err := executable(candidate)
		if err == nil {
			return candidate, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			found = err
		}
	}
	return "", startError("no such program in PATH", found).WithField("action.payload.argv").
		With("program", printable(name)).With("PATH", printable(path))
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fs.ErrPermission
	}
	return nil
}

// startError is why a process could not be started.
func startError(detail string, err error) *rterr.Error {
	reason := rterr.Internal
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		reason = rterr.NotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOEXEC):
		reason = rterr.PermissionDenied
	case errors.Is(err, unix.E2BIG):
		reason = rterr.LimitExceeded
	}
	return rterr.New(reason, "start process", "%s: %v", detail, err).WithCause(err).WithRan(rterr.RanNo)
}
