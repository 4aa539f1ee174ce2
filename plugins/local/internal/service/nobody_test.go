package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/sandbox"
)

const nobody = 65534

// TestUnprivileged: a whole life as somebody who has no cgroup, with and without a user namespace.
func TestUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	for _, mode := range []string{"auto", "off"} {
		for _, end := range []string{"close", "kill agent", "close without credential"} {
			t.Run(mode+", "+end, func(t *testing.T) {
				dir := publicDir(t)
				program := filepath.Join(dir, "self")
				copyFile(t, "/proc/self/exe", program)
				state := filepath.Join(dir, "state")
				if err := os.Mkdir(state, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(state, nobody, nobody); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(program, "walk", state, mode, end)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				if left := processes(); strings.Contains(left, state) {
					t.Error("a process is left")
				}
				if left, err := os.ReadDir(filepath.Join(state, "sandboxes")); err != nil || len(left) != 0 {
					t.Errorf("%v, %v", left, err)
				}
			})
		}
	}
}

func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "local-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// runWalk is that life: state folder, mount_namespace, how it ends.
func runWalk() error {
	ctx := context.Background()
	s := newService("test", nil)
	defer s.stop()
	answer, err := s.Configure(ctx, &backendv1.ConfigureRequest{
		Config: fmt.Appendf(nil, `{"agent_binary":%q,"mount_namespace":%q}`, self(), os.Args[3]), StateDir: os.Args[2], Owner: "o", Backend: "here",
	})
	if err != nil {
		return err
	}
	c := answer.GetCapabilities()
	if c.GetUsage() || c.GetWorkspaceMount() != (os.Args[3] == "auto") || len(answer.GetWarnings()) == 0 {
		return fmt.Errorf("capabilities %v, warnings %v", c, answer.GetWarnings())
	}
	out := &stream[backendv1.ConnectResponse]{ctx: ctx}
	if err := s.Connect(request("i1"), out); err != nil {
		return err
	}
	h := out.sent[len(out.sent)-1].GetConnected().GetHandle()
	pid, start, err := detach(ctx, s, h)
	if err != nil {
		return err
	}
	return errors.Join(end(ctx, s, h, os.Args[4]), sandbox.WaitProcess(ctx, pid, start))
}

// detach starts a process that leaves its session and its parent, and pauses and resumes it.
func detach(ctx context.Context, s *Service, h *backendv1.Handle) (pid int, start uint64, err error) {
	text, err := runScript(ctx, s, h, "setsid sleep 600 >/dev/null 2>&1 & echo $!")
	if err != nil {
		return 0, 0, err
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
		return 0, 0, err
	}
	if start, err = sandbox.StartTime(pid); err != nil {
		return 0, 0, err
	}
	_, pauseErr := s.Pause(ctx, &backendv1.PauseRequest{Handle: h, AgentCredential: credential})
	_, resumeErr := s.Resume(ctx, &backendv1.ResumeRequest{Handle: h, AgentCredential: credential})
	return pid, start, errors.Join(pauseErr, resumeErr)
}

func end(ctx context.Context, s *Service, h *backendv1.Handle, how string) error {
	req := &backendv1.CloseRequest{Handle: h, Mode: backendv1.CloseMode_CLOSE_MODE_DELETE, AgentCredential: credential}
	switch how {
	case "kill agent":
		o, err := decodeHandle(h)
		if err != nil {
			return err
		}
		if err := sandbox.SignalProcess(o.PID, o.StartTime, syscall.SIGKILL); err != nil {
			return err
		}
		return s.left(ctx, h.GetSandboxId(), o.Nonce)
	case "close without credential":
		req.AgentCredential = ""
	}
	_, err := s.Close(ctx, req)
	return err
}
