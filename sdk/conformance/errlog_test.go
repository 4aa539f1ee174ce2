package conformance

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/openhands-rt/openhands-rt/proto/openhands/agent/v1"
	"github.com/openhands-rt/openhands-rt/sdk/rterr"
	"github.com/openhands-rt/openhands-rt/sdk/rterr/rtgrpc"
)

func detailed(t *testing.T, d *agentv1.ErrorDetail) error {
	t.Helper()
	st, err := status.New(codes.NotFound, "x").WithDetails(d)
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

func TestBareError(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"end", io.EOF, ""},
		{"ours", rtgrpc.ToStatus(rterr.New(rterr.NotFound, "op", "no")), ""},
		{"bare", status.Error(codes.NotFound, "no"), "NotFound without an ErrorDetail"},
		{"untyped", status.Error(codes.Unknown, "no"), "Unknown without"},
		{"unimplemented", status.Error(codes.Unimplemented, "no"), "Unimplemented without"},
		{"unsupported", rtgrpc.ToStatus(rterr.New(rterr.Unsupported, "op", "no")), ""},
		{"no reason", detailed(t, &agentv1.ErrorDetail{Message: "x"}), "no reason"},
		{"no message", detailed(t, &agentv1.ErrorDetail{Reason: agentv1.Reason_REASON_NOT_FOUND}), "no message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := bareError(c.err); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestErrorsOfThisSideAreNotCharged(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var b bareErrors
	b.look(ended, "/M", status.Error(codes.Canceled, "context canceled"))
	b.look(t.Context(), "/M", status.Error(codes.Unavailable, "connection refused"))
	b.look(t.Context(), "/M", errors.New("no status at all"))
	b.look(t.Context(), "/M", grpc.ErrClientConnClosing) //nolint:staticcheck // it is what calls still return
	if got := b.list(); len(got) != 0 {
		t.Errorf("charged: %q", got)
	}
	for range 3 {
		b.look(t.Context(), "/M", status.Error(codes.Canceled, "the plugin says so"))
	}
	if got := b.list(); len(got) != 1 || !strings.HasPrefix(got[0], "/M: ") {
		t.Errorf("want one complaint, got %q", got)
	}
}
