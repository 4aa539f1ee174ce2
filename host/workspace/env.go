package workspace

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/openhands-rt/openhands-rt/host/runtime"
	runtimev1 "github.com/openhands-rt/openhands-rt/proto/openhands/runtime/v1"
	"github.com/openhands-rt/openhands-rt/sdk/action"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

//go:embed env.sh
var envScript string

// Bounds of SetEnv, in bytes. All of it goes into the environment of one process, where the kernel takes no more.
const (
	maxValue  = 64 << 10
	maxValues = 256 << 10
	partSize  = 96 << 10
)

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reserved are the names that bash does not let anyone change.
func reserved(name string) bool {
	return slices.Contains([]string{"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"}, name) ||
		strings.HasPrefix(name, "__rt_") || strings.HasPrefix(name, "OPENHANDS_RT_PART_")
}

// checkEnv refuses what cannot be exported. Errors name variables, never values.
func checkEnv(env map[string]string) error {
	all := 0
	for name, value := range env {
		all += len(value)
		switch {
		case !namePattern.MatchString(name):
			return rterr.Invalid("", "env", "%q is no name of a variable", name)
		case reserved(name):
			return rterr.Invalid("", "env", "%s belongs to the shell", name)
		case strings.ContainsRune(value, 0):
			return rterr.Invalid("", "env", "the value of %s has a NUL byte", name)
		case len(value) > maxValue:
			return rterr.Invalid("", "env", "the value of %s has more than %d bytes", name, maxValue)
		}
	}
	if all > maxValues {
		return rterr.Invalid("", "env", "the values have more than %d bytes in all", maxValues)
	}
	return nil
}

// SetEnv exports variables in shell and kernel, and keeps them in ~/.bashrc. Without any it does nothing.
func (s *Steps) SetEnv(ctx context.Context, req *runtimev1.SetEnvRequest) (*runtimev1.SetEnvResponse, error) {
	st, err := s.begin(ctx, req.GetRuntimeId(), req.GetStepId())
	if err != nil {
		return nil, err
	}
	if err := checkEnv(req.GetEnv()); err != nil {
		return nil, err
	}
	if len(req.GetEnv()) == 0 {
		return &runtimev1.SetEnvResponse{}, nil
	}
	jupyter, err := s.runtimes.HasFeature(ctx, req.GetRuntimeId(), "jupyter")
	if err != nil {
		return nil, err
	}
	resp := &runtimev1.SetEnvResponse{}
	err = st.setUp(ctx, runtime.StageWorkspace, workspaceLimit, "setting variables", func(ctx context.Context) (err error) {
		resp.Kernel, err = st.setEnv(ctx, req.GetEnv(), jupyter)
		return rterr.Wrap(rterr.Internal, "set variables", err)
	})
	return resp, err
}

func (s *step) setEnv(ctx context.Context, env map[string]string, jupyter bool) (kernel bool, err error) {
	home := s.runtime.GetHome()
	if home == "" {
		return false, rterr.New(rterr.Unsupported, "", "the backend does not say where the home of the sandbox's user is")
	}
	names := slices.Sorted(maps.Keys(env))
	file := path.Join(home, ".openhands-rt-env-"+s.eight())
	defer s.remove(ctx, file)
	if err := s.writeEnv(ctx, file, home, names, env); err != nil {
		return false, err
	}
	// What the shell would say of it has values in it, if the user traces.
	obs, d, err := s.run(ctx, "export", `\builtin . `+quote(file)+` >/dev/null 2>&1`, smallLimit)
	switch {
	case err != nil:
		return false, err
	case busy(obs, d):
		return false, errBusy()
	case obs.Extras.Metadata.ExitCode != 0:
		return false, rterr.New(rterr.IllegalState, "", "the shell does not take one of %s", strings.Join(names, ", ")).
			WithRemedy("one of them may be read-only there")
	}
	if !jupyter {
		return false, nil
	}
	return s.exportToKernel(ctx, file, names)
}

// writeEnv writes the private file and ~/.bashrc.
func (s *step) writeEnv(ctx context.Context, file, home string, names []string, env map[string]string) error {
	var text strings.Builder
	for i, name := range names {
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString(name + "=" + quote(env[name]))
	}
	parts := map[string]string{"LC_ALL": "C"}
	count := 0
	for rest := text.String(); rest != ""; count++ {
		n := min(partSize, len(rest))
		parts["OPENHANDS_RT_PART_"+strconv.Itoa(count)], rest = rest[:n], rest[n:]
	}
	d, err := s.process(ctx, "write", smallLimit, action.Process{
		Argv: append([]string{"bash", "--norc", "-c", envScript, "set-env", file, home, strconv.Itoa(count)}, names...), Env: parts,
	})
	if err != nil {
		return err
	}
	if d.code() != 0 {
		return rterr.New(rterr.PermissionDenied, "", "~/.bashrc cannot be written: %s", d.said())
	}
	return nil
}

// remove takes the private file away, whatever has happened before.
func (s *step) remove(ctx context.Context, file string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	// Where this fails, the sandbox is lost, and the file with it.
	_, _ = s.process(ctx, "remove", endLimit, action.Process{Argv: []string{"rm", "-f", "--", file}})
}

// kernelCode sets variables in the kernel: bash reads them, as it did in the shell, and the values are not in the code.
const kernelCode = `def __openhands_rt_env(file, names):
    import os, subprocess
    script = '. "$1" || exit; shift; for name; do printf "%%s\\0" "${!name}"; done'
    bash = subprocess.run(["bash", "--norc", "-c", script, "bash", file, *names], env={}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    os.environb.update(zip(map(os.fsencode, names), bash.stdout.split(b"\0")))
    return len(names)


print("exported:", __openhands_rt_env(%s, %s))
del __openhands_rt_env`

// exportToKernel tells the kernel, if the sandbox has one.
func (s *step) exportToKernel(ctx context.Context, file string, names []string) (bool, error) {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	code := fmt.Sprintf(kernelCode, strconv.QuoteToASCII(file), "["+strings.Join(quoted, ", ")+"]")
	d, err := s.act(ctx, "kernel", kindIPython, map[string]string{"code": code}, smallLimit)
	if rterr.Is(err, rterr.UnknownKind) {
		return false, nil
	}
	if err != nil {
		return false, rterr.Wrap(rterr.Internal, "in the kernel", err)
	}
	if !strings.Contains(string(d.observation.GetPayload()), "exported: "+strconv.Itoa(len(names))) {
		return false, rterr.New(rterr.Internal, "in the kernel", "it did not take the variables").
			With("observation", string(d.observation.GetPayload()))
	}
	return true, nil
}

// kindIPython is the kind of action for the kernel.
const kindIPython = "run_ipython"
