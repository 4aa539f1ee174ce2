package launch

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/serve"
)

// envRole makes this test binary a plugin.
const envRole = "LAUNCH_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "plugin":
		serve.Main(serve.Options{Name: "test", Version: "1", New: func(serve.Env) (backendv1.BackendServiceServer, error) {
			return &backend{}, nil
		}})
	case "dies":
		os.Stderr.WriteString("the reason why it dies\n")
		os.Exit(1)
	case "mute":
		select {}
	}
	goleak.VerifyTestMain(m)
}

type backend struct {
	backendv1.UnimplementedBackendServiceServer
}

func (b *backend) Describe(context.Context, *backendv1.DescribeRequest) (*backendv1.DescribeResponse, error) {
	line := strings.Repeat("x", 1<<20)
	os.Stdout.WriteString(line)
	os.Stderr.WriteString(line + "\n{\"@level\": 7, \"@message\": []}\n")
	return &backendv1.DescribeResponse{Instance: os.Getenv("SECRET") + os.Getenv("GIVEN")}, nil
}

func start(t *testing.T, role string, edit ...func(*Config)) (*Plugin, error) {
	t.Helper()
	cfg := Config{Command: []string{os.Args[0]}, Env: []string{envRole + "=" + role}, Logger: hclog.NewNullLogger()}
	for _, e := range edit {
		e(&cfg)
	}
	p, err := Start(t.Context(), cfg)
	if p != nil {
		t.Cleanup(func() {
			if err := p.Stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
	return p, err
}

func describe(t *testing.T, p *Plugin) *backendv1.DescribeResponse {
	t.Helper()
	answer, err := backendv1.NewBackendServiceClient(p.Conn).Describe(t.Context(), &backendv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestStartCallsAndStops(t *testing.T) {
	t.Setenv("SECRET", "secret")
	calls := 0
	p, err := start(t, "plugin", func(c *Config) {
		c.Env = append(c.Env, "GIVEN=given")
		c.Unary = func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, o ...grpc.CallOption) error {
			calls++
			return call(ctx, method, req, reply, conn, o...)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// Twice: a reader that gave up at the long line would block the plugin.
	for range 2 {
		if got := describe(t, p).GetInstance(); got != "given" {
			t.Errorf("the plugin's environment has %q, want what was given and no secret", got)
		}
	}
	if calls != 2 {
		t.Errorf("the interceptor saw %d calls", calls)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	<-p.Exited()
}

func TestKillIsAtOnce(t *testing.T) {
	p, err := start(t, "plugin")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("Kill returned before the process was dead")
	}
	if err := p.Kill(); err != nil {
		t.Errorf("a second Kill: %v", err)
	}
}

func TestHangUpEndsThePlugin(t *testing.T) {
	p, err := start(t, "plugin")
	if err != nil {
		t.Fatal(err)
	}
	p.HangUp()
	<-p.Exited()
}

func TestStartTellsWhyNot(t *testing.T) {
	_, err := start(t, "dies")
	if !rterr.Is(err, rterr.PluginUnavailable) || !strings.Contains(rterr.From(err).Evidence["stderr"], "the reason why it dies") {
		t.Errorf("got %v, evidence %v", err, rterr.From(err).Evidence)
	}
	if _, err := Start(t.Context(), Config{Command: []string{"/no/such/plugin"}}); !rterr.Is(err, rterr.PluginUnavailable) {
		t.Errorf("no such file: %v", err)
	}
	if _, err := Start(t.Context(), Config{}); !rterr.Is(err, rterr.InvalidArgument) {
		t.Errorf("no command: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ended, Config{Command: []string{os.Args[0]}}); !rterr.Is(err, rterr.Cancelled) {
		t.Errorf("ended context: %v", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Config{Command: []string{os.Args[0]}, Env: []string{envRole + "=mute"}})
	if !rterr.Is(err, rterr.Timeout) {
		t.Errorf("a plugin that says nothing: %v", err)
	}
}

func TestDial(t *testing.T) {
	p, err := Dial("unix:///no/such/socket", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backendv1.NewBackendServiceClient(p.Conn).Describe(t.Context(), &backendv1.DescribeRequest{}); err == nil {
		t.Error("nobody answered, yet there is an answer")
	}
	if err := p.Kill(); !rterr.Is(err, rterr.Unsupported) {
		t.Errorf("kill of a dialled backend: %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	tail := newTail(nil)
	for range 3 {
		tail.Write([]byte(strings.Repeat("x", tailSize)))
	}
	tail.Write([]byte("the end"))
	if got := tail.String(); len(got) != tailSize || !strings.HasSuffix(got, "the end") {
		t.Errorf("%d bytes kept", len(got))
	}
}

func FuzzShortLines(f *testing.F) {
	f.Add([]byte("1|1|unix|/x|grpc\n"), uint8(3))
	f.Add([]byte(strings.Repeat("x", 3*maxLine)+"\nshort\n\n"), uint8(200))
	f.Fuzz(func(t *testing.T, text []byte, chunk uint8) {
		var want, got []byte
		for line := range strings.Lines(string(text)) {
			body, ended := strings.CutSuffix(line, "\n")
			want = append(want, body[:min(len(body), maxLine)]...)
			if ended {
				want = append(want, '\n')
			}
		}
		s := &shortLines{}
		for rest := text; len(rest) > 0; {
			piece := append([]byte(nil), rest[:min(len(rest), int(chunk)+1)]...)
			rest = rest[len(piece):]
			got = append(got, piece[:s.cut(piece)]...)
		}
		if string(got) != string(want) {
			t.Errorf("cut to %d bytes, want %d", len(got), len(want))
		}
	})
}
