package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/creack/pty"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// The names of the raw limits.
const (
	rawPTY  = "PTY round trip (prompt-hook sentinel)"
	rawGRPC = "plain gRPC, unix socket"
	rawHTTP = "plain HTTP, loopback"
	rawExec = "fork and exec of /bin/true"
)

// baselines measures what no design can beat.
func (b *bench) baselines() error {
	for _, part := range []func() error{b.rawPTY, b.rawGRPC, b.rawHTTP, b.rawExec} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// rawPTY types `echo hi` into a bash whose prompt hook prints a sentinel, and reads up to it.
func (b *bench) rawPTY() error {
	cmd := exec.CommandContext(b.ctx, "bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.Env = append(os.Environ(), "PS1=", "PS2=", `PROMPT_COMMAND=printf '\001%s\002' $((++n))`)
	tty, err := pty.Start(cmd)
	if err != nil {
		return err
	}
	defer func() { _ = tty.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	shell := &rawShell{tty: tty, buffer: make([]byte, 64<<10)}
	if err := shell.run("stty -echo"); err != nil {
		return err
	}
	return b.measure(rawPTY, b.rounds, func() error { return shell.run("echo hi") })
}

// rawShell types commands and reads up to the sentinel that counts them.
type rawShell struct {
	tty    *os.File
	buffer []byte
	seen   []byte
	typed  int
}

func (s *rawShell) run(command string) error {
	s.typed++
	want := fmt.Appendf(nil, "\001%d\002", s.typed+1) // the first prompt comes before any command
	if _, err := s.tty.WriteString(command + "\n"); err != nil {
		return err
	}
	for s.seen = s.seen[:0]; !bytes.Contains(s.seen, want); {
		n, err := s.tty.Read(s.buffer)
		if err != nil {
			return err
		}
		s.seen = append(s.seen, s.buffer[:n]...)
	}
	return nil
}

func (b *bench) rawGRPC() error {
	socket := filepath.Join(b.dir, "grpc.sock")
	listener, err := new(net.ListenConfig).Listen(b.ctx, "unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }() // ends with Stop
	defer server.Stop()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the end of a benchmark
	client := grpc_health_v1.NewHealthClient(conn)
	return b.measure(rawGRPC, b.rounds, func() error {
		_, err := client.Check(b.ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	})
}

func (b *bench) rawHTTP() error {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write([]byte(`{"ok":true}`))
	}))
	defer server.Close()
	return b.measure(rawHTTP, b.rounds, func() error {
		req, err := http.NewRequestWithContext(b.ctx, http.MethodPost, server.URL, bytes.NewReader([]byte(`{"command":"echo hi"}`)))
		if err != nil {
			return err
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close() //nolint:errcheck // the end of a read
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	})
}

func (b *bench) rawExec() error {
	return b.measure(rawExec, b.rounds/2, func() error { return exec.CommandContext(b.ctx, "/bin/true").Run() })
}

// rawPipe is the throughput of a pipe from a child, for the large output.
func rawPipe(ctx context.Context, script string) (int64, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, out, make([]byte, 64<<10))
	if waitErr := cmd.Wait(); err == nil && waitErr != nil {
		return n, fmt.Errorf("%s: %w", script, waitErr)
	}
	return n, err
}
