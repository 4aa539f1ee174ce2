package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"google.golang.org/grpc/health"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1/agentv1connect"
	"github.com/openhands-rt/openhands-rt/sdk/agent/client"
)

// bearer adds the credential for clients that the benchmarks build themselves.
type bearer struct{ next http.RoundTripper }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+credential)
	return b.next.RoundTrip(r)
}

// viaH2C is the client that we did not choose: HTTP/2 without TLS on the same socket.
func viaH2C(b *testing.B, path string) agentv1connect.AgentServiceClient {
	b.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	b.Cleanup(t.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: bearer{t}}, "http://agent", connect.WithAcceptCompression("gzip", nil, nil))
}

// BenchmarkUnary compares one small call over the socket: our client, HTTP/2, plain net/http, and gRPC.
func BenchmarkUnary(b *testing.B) {
	a := start(b)
	b.Run("client", func(b *testing.B) {
		c := a.client(b)
		for b.Loop() {
			if _, err := c.Thaw(b.Context(), &agentv1.ThawRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("h2c", func(b *testing.B) {
		c := viaH2C(b, a.path)
		for b.Loop() {
			if _, err := c.Thaw(b.Context(), connect.NewRequest(&agentv1.ThawRequest{})); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plain http", func(b *testing.B) {
		c := a.client(b)
		rt, base := c.HTTP()
		for b.Loop() {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, base.String()+"/", nil)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := rt.RoundTrip(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	b.Run("grpc", benchGRPC)
}

func benchGRPC(b *testing.B) {
	path := filepath.Join(b.TempDir(), "g.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	defer func() { s.Stop(); <-done }()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	c := healthpb.NewHealthClient(conn)
	for b.Loop() {
		if _, err := c.Check(b.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExecute is record, one piece of output and the observation.
func BenchmarkExecute(b *testing.B) {
	a := start(b)
	a.engine.instant = true
	b.Run("client", func(b *testing.B) {
		c := a.client(b)
		for b.Loop() {
			benchExecute(b, c)
		}
	})
	b.Run("h2c", func(b *testing.B) {
		c := viaH2C(b, a.path)
		for b.Loop() {
			s, err := c.Execute(b.Context(), connect.NewRequest(action("x")))
			if err != nil {
				b.Fatal(err)
			}
			for s.Receive() {
			}
			if err := s.Close(); err != nil || s.Err() != nil {
				b.Fatal(err, s.Err())
			}
		}
	})
}

func benchExecute(b *testing.B, c *client.Client) {
	s, err := c.Execute(b.Context(), action("x"))
	if err != nil {
		b.Fatal(err)
	}
	for {
		ev, err := s.Recv()
		if err != nil {
			b.Fatal(err)
		}
		if ev.GetObservation() != nil {
			_ = s.Close()
			return
		}
	}
}
