package rthttp

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func full(r rterr.Reason) *rterr.Error {
	return rterr.New(r, "", "start devbox: no room").
		With("request_id", "x-1").WithRan(rterr.RanUnknown).WithRetryAfter(1500 * time.Millisecond).WithField("spec.image")
}

var ignoreCause = cmpopts.IgnoreUnexported(rterr.Error{})

func TestEveryReasonRoundTripsOverConnect(t *testing.T) {
	for _, r := range rterr.Reasons() {
		t.Run(r.String(), func(t *testing.T) {
			want := full(r)
			got := rterr.From(FromConnect(ToConnect(want)))
			if diff := cmp.Diff(want, got, ignoreCause); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEveryReasonRoundTripsOverHTTP(t *testing.T) {
	for _, r := range rterr.Reasons() {
		t.Run(r.String(), func(t *testing.T) {
			want := full(r)
			rec := httptest.NewRecorder()
			Write(rec, want)
			if rec.Code < 400 {
				t.Errorf("status %d", rec.Code)
			}
			if got := rec.Header().Get("Retry-After"); got != "2" {
				t.Errorf("Retry-After %q, want whole seconds rounded up", got)
			}
			got := rterr.From(Read(rec.Code, rec.Body.Bytes()))
			if diff := cmp.Diff(want, got, ignoreCause); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConnectErrorsWithoutDetail(t *testing.T) {
	for code, want := range map[connect.Code]rterr.Reason{
		connect.CodeUnavailable:     rterr.Network,
		connect.CodeUnimplemented:   rterr.Unsupported,
		connect.CodeInvalidArgument: rterr.InvalidArgument,
		connect.CodeUnknown:         rterr.Internal,
	} {
		if got := rterr.ReasonOf(FromConnect(connect.NewError(code, errors.New("x")))); got != want {
			t.Errorf("%v: %v, want %v", code, got, want)
		}
	}
}
