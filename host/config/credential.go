package config

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

// The bounds of reading a credential.
const (
	// commandLimit is how long a credential's program may take where its own timeout is not set.
	commandLimit = 10 * time.Second
	// commandWait is how long a killed program's output is waited for.
	commandWait = time.Second
	// maxCredential is the largest credential, in bytes.
	maxCredential = 64 << 10
)

// Resolve reads the secret that a credential refers to: again at each call, so that a renewed one is seen. It blocks for at most
// the credential's timeout. Errors are rterr.ConfigInvalid (Timeout, Cancelled) and never hold the secret.
func (r Credential) Resolve(ctx context.Context) (string, error) {
	secret, err := r.read(ctx)
	if err != nil {
		return "", rterr.Wrap(rterr.ConfigInvalid, "read credential", err)
	}
	secret = strings.TrimSuffix(strings.TrimSuffix(secret, "\n"), "\r")
	switch {
	case secret == "":
		return "", rterr.New(rterr.ConfigInvalid, "read credential", "%s is empty", r).WithRemedy("set it, or correct the reference")
	case len(secret) > maxCredential:
		return "", rterr.New(rterr.ConfigInvalid, "read credential", "%s has more than %d bytes", r, maxCredential).WithRemedy("correct the reference")
	}
	return secret, nil
}

// String names the reference, not the secret: "env RUNLOOP_API_KEY", "file /run/key", "command /usr/bin/pass".
func (r Credential) String() string {
	switch {
	case r.Env != "":
		return "env " + r.Env
	case r.File != "":
		return "file " + r.File
	case len(r.Command) > 0:
		return "command " + r.Command[0]
	default:
		return "nothing"
	}
}

func (r Credential) read(ctx context.Context) (string, error) {
	switch {
	case r.Env != "":
		value, ok := os.LookupEnv(r.Env)
		if !ok {
			return "", rterr.New(rterr.ConfigInvalid, "", "the variable %s is not set", r.Env).
				WithRemedy("set " + r.Env + " in the daemon's environment, or refer to a file or command")
		}
		return value, nil
	case r.File != "":
		return r.readFile()
	case len(r.Command) > 0:
		return r.run(ctx)
	default:
		return "", rterr.New(rterr.ConfigInvalid, "", "the credential refers to nothing").WithRemedy("give exactly one of env, file and command")
	}
}

func (r Credential) readFile() (string, error) {
	file, err := os.Open(r.File)
	if err != nil {
		return "", rterr.New(rterr.ConfigInvalid, "", "%v", err).WithRemedy("make the file, readable by the daemon").WithCause(err)
	}
	defer func() { _ = file.Close() }() // read only
	data, err := io.ReadAll(io.LimitReader(file, maxCredential+2))
	if err != nil {
		return "", rterr.New(rterr.ConfigInvalid, "", "%v", err).WithRemedy("make it a readable file").WithCause(err)
	}
	return string(data), nil
}

// run runs the program in a group of its own, so that its timeout ends all of it.
func (r Credential) run(ctx context.Context) (string, error) {
	limit := r.Timeout.Std()
	if limit <= 0 {
		limit = commandLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Command[0], r.Command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = commandWait
	var out bytes.Buffer
	cmd.Stdout = &limited{w: &out, left: maxCredential + 2}
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s: %w", r, ctx.Err())
	}
	if err != nil {
		return "", rterr.New(rterr.ConfigInvalid, "", "%s: %v", r, err).WithRemedy("run it by hand as the daemon's user").WithCause(err)
	}
	return out.String(), nil
}

// limited takes so many bytes, and no more.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	take := p[:min(len(p), l.left)]
	l.left -= len(take)
	if _, err := l.w.Write(take); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ResolveCredentials reads all credentials of a backend, by their names. The first that cannot be read ends it, named by its path.
func (c *Config) ResolveCredentials(ctx context.Context, backend string) (map[string]string, error) {
	out := map[string]string{}
	for name, credential := range c.Backends[backend].Credentials {
		secret, err := credential.Resolve(ctx)
		if err != nil {
			path := "backends." + backend + ".credentials." + name
			e := *rterr.From(rterr.Wrap(rterr.ConfigInvalid, "", err))
			return nil, e.WithField(path)
		}
		out[name] = secret
	}
	return out, nil
}
