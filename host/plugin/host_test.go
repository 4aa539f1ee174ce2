package plugin

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

const envHostDir = "PLUGIN_TEST_DIR"

// hostMain is a host with one plugin, which prints the plugin's pid once a call runs in it, and waits to be killed.
func hostMain() {
	spec := specFor(os.Getenv("PLUGIN_TEST_OF"), "")
	s := New(spec, Options{Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn}), RuntimeDir: os.Getenv(envHostDir)})
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fail(s.Start(context.Background()))
	client, err := s.Client(context.Background())
	fail(err)
	stream, err := client.Execute(context.Background(), &backendv1.ExecuteRequest{})
	fail(err)
	_, err = stream.Recv()
	fail(err)
	fmt.Println("plugin", s.Snapshot().PID)
	select {}
}

// TestNoPluginOutlivesItsHost kills a host and waits for its plugin, also for one that knows nothing of lifelines.
func TestNoPluginOutlivesItsHost(t *testing.T) {
	for _, role := range []string{"plain", "foreign"} {
		t.Run(role, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			dir := shortDir(t)
			cmd.Env = []string{envRole + "=host", "PLUGIN_TEST_OF=" + role, envHostDir + "=" + dir, "PATH=" + os.Getenv("PATH")}
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			line, err := bufio.NewReader(out).ReadString('\n')
			if _, scanErr := fmt.Sscanf(strings.TrimSpace(line), "plugin %d", &pid); scanErr != nil {
				t.Fatalf("%q: %v, %v", line, err, scanErr)
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			awaitPidfd(t, fd)
			// The next host clears away what this one could not.
			next := New(specFor("plain", ""), Options{RuntimeDir: dir})
			if err := next.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := next.Client(t.Context()); err != nil {
				t.Error(err)
			}
			if err := next.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("sockets are left: %v", left)
			}
		})
	}
}
