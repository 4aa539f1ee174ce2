package serve

import (
	"bufio"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func command(t *testing.T, role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = []string{envRole + "=" + role, quickExit}
	return cmd
}

func TestDescribePrintsJSONAlone(t *testing.T) {
	text, err := command(t, "noise", "describe").Output()
	if err != nil {
		t.Fatal(err)
	}
	var answer backendv1.DescribeResponse
	if err := protojson.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if answer.GetName() != "test" || !answer.GetCapabilities().GetPause() {
		t.Errorf("describe = %v", &answer)
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		name   string
		role   string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"version", "plain", []string{"--version"}, 0, "test 1.2.3 (backend protocol 1", ""},
		{"by hand", "plain", nil, 2, "", "a backend plugin of openhands-rt"},
		{"help", "plain", []string{"--help"}, 0, "", "serve --address ADDRESS"},
		{"unknown", "plain", []string{"frobnicate"}, 2, "", `unknown command "frobnicate"`},
		{"refuses", "refuse", []string{"describe"}, 1, "", "refused by the test"},
		{"no address", "plain", []string{"serve"}, 1, "", "--address"},
		{"open TCP", "plain", []string{"serve", "--address", "tcp://0.0.0.0:0"}, 1, "", "other machines could reach it"},
		{"no port", "plain", []string{"serve", "--address", "tcp://127.0.0.1"}, 1, "", "other machines could reach it"},
		{"open folder", "plain", []string{"serve", "--address", "unix:///tmp/x.sock"}, 1, "", "open to other users"},
		{"flag help", "plain", []string{"serve", "-h"}, 0, "", "-address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := command(t, c.role, c.args...)
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			if !strings.Contains(stdout.String(), c.stdout) || (c.stdout == "" && stdout.Len() > 0) {
				t.Errorf("stdout %q", &stdout)
			}
			if !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("stderr %q", &stderr)
			}
		})
	}
}

func TestServeAtAddress(t *testing.T) {
	for name, address := range map[string]string{
		"unix": "unix://" + filepath.Join(shortDir(t), "private", "b.sock"),
		"tcp":  "tcp://127.0.0.1:0",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, "plain", "serve", "--address", address)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			target := strings.TrimPrefix(strings.TrimSpace(line), "tcp://")
			conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answer, err := backendv1.NewBackendServiceClient(conn).Describe(t.Context(), &backendv1.DescribeRequest{})
			if err != nil || answer.GetName() != "test" {
				t.Errorf("Describe = %v, %v", answer, err)
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("exit: %v", err)
			}
		})
	}
}

func TestSocketOfADeadServerIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(shortDir(t), "b.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	live, err := listen(t.Context(), "unix://"+path, false)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	defer live.Close()
	if second, err := listen(t.Context(), "unix://"+path, false); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a live socket: %v, %v", second, err)
	}
	file := filepath.Join(filepath.Dir(path), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), "unix://"+file, false); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file: %q, %v", text, err)
	}
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "srv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
