package rtgrpc

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/openhands-rt/openhands-rt/sdk/rterr"
)

func TestEveryReasonRoundTrips(t *testing.T) {
	for _, r := range rterr.Reasons() {
		t.Run(r.String(), func(t *testing.T) {
			want := rterr.New(r, "", "start devbox: no room").
				With("request_id", "x-1").WithRan(rterr.RanYes).WithRetryAfter(time.Second).WithField("spec.image")
			got := rterr.From(FromStatus(ToStatus(want)))
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(rterr.Error{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStatusWithoutDetail(t *testing.T) {
	for code, want := range map[codes.Code]rterr.Reason{
		codes.Unavailable:   rterr.Network,
		codes.Unimplemented: rterr.Unsupported,
		codes.Unknown:       rterr.Internal,
	} {
		if got := rterr.ReasonOf(FromStatus(status.Error(code, "x"))); got != want {
			t.Errorf("%v: %v, want %v", code, got, want)
		}
	}
}

func TestContextErrorsKeepTheirMeaning(t *testing.T) {
	if got := status.Code(ToStatus(context.Canceled)); got != codes.Canceled {
		t.Errorf("cancelled became %v", got)
	}
	if got := status.Code(ToStatus(context.DeadlineExceeded)); got != codes.DeadlineExceeded {
		t.Errorf("deadline became %v", got)
	}
}
